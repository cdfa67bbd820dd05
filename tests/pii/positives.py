"""What must be found: values made by generators, in texts as people and programs write them.

A carrier has one `{}` for the value. Those of a kind that is only told by a word beside it are written for it; all others
stand in any text. The words were chosen from documents and forms, not from the detectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.pii import numbers, people, secrets

SEED = 20_260_801
EACH = 12


class Case(NamedTuple):
    """A text; the value to find in it; the detector that should name it. No value: nothing may be found."""

    detector: str
    text: str
    value: str


ANYWHERE = (
    "Hi, could you check {} for me? Thanks!",
    "Bitte prüfe {} und melde dich bei mir.",
    "Pouvez-vous vérifier {}, s'il vous plaît ?",
    "¿Puedes revisar {} antes de mañana?",
    "请帮我核对一下：{}，谢谢。",
    "これを確認してください：{}。",
    "कृपया {} की जाँच करें",
    "2026-08-01T12:30:45.123Z INFO gateway request_id=550e8400-e29b-41d4-a716-446655440000 value={} status=200",
    '{"role": "user", "content": "My details: {}"}',
    "{'role': 'user', 'content': 'It is {}'}",
    "| field | value |\n| --- | --- |\n| it | {} |",
    "1,42,{},ok\n2,43,none,ok",
    'Traceback (most recent call last):\n  File "app.py", line 3\nValueError: bad input: {}',
    "values:\n  - {}\n  - other",
    "{}",
    "({})",
    "<td>{}</td>",
    "old: {}; new: n/a",
)
SECRET = (
    "Why does this fail?\n```\nexport KEY={}\n```",
    'client = Client("{}")',
    "curl -H 'X-Key: {}' https://api.example.com/v1/models",
    "Incorrect key provided: {}. You can find yours in the settings.",
    '{"error": "invalid credential {}"}',
    "key: {}",
    "Mein Schlüssel lautet {} und er geht nicht.",
    "`{}`",
    "{}",
    "[2026-08-01 12:30:45] auth failed for {}",
)


def both(*words: str) -> tuple[str, ...]:
    """Carriers for a number that has a name: in a sentence, a form, a document, a log."""
    shapes = (
        "{w}: {v}",
        "{w} {v}",
        "my {w} is {v}, thanks",
        '{{"{k}": "{v}", "n": 1}}',
        "{k}={v}",
        "{v} ({w})",
        "{w} no. {v}",
    )
    return tuple(
        shape.format(w=word, k=word.lower().replace(" ", "_"), v="{}")
        for word in words
        for shape in shapes
        if word.isascii() or "{k}" not in shape
    )


PHONE = (
    "call me at {}",
    "Tel. {}",
    "mobile: {}",
    '{"phone": "{}"}',
    "phone_number={}",
    "WhatsApp {} please",
    "Telefon {}",
    "téléphone : {}",
    "teléfono {}",
    "电话：{}",
    "手机 {}",
    "電話番号：{}",
)

Carriers = tuple[str, ...]
#: detector → generator, carriers.
KINDS: dict[str, list[tuple[Callable[[Random], str], Carriers]]] = {
    "email": [(people.email, (*ANYWHERE, "GET /search?q={}&page=2", "<{}>", "mailto:{}", "To:{},cc: none"))],
    "phone": [(people.phone_international, ANYWHERE), (people.phone_national, ANYWHERE), (people.phone_bare, PHONE)],
    "card": [(numbers.card, (*ANYWHERE, "card {} exp 12/27 cvc 123"))],
    "iban": [(numbers.iban, (*ANYWHERE, "IBAN {} BIC COBADEFFXXX"))],
    "date_of_birth": [(people.birth_date, ("born on {}", "DOB: {}", "date of birth {}", "Geburtsdatum: {}", "geboren am {}", "né le {}", "fecha de nacimiento: {}", "data di nascita {}", '{"date_of_birth": "{}"}', '{"dateOfBirth":"{}"}', "birthdate={}", "出生日期：{}", "生年月日 {}", "nascida em {}"))],
    "passport": [(people.passport, ("passport {}", "Passport No. {}", "Passport number: {}", "Reisepass {}", "passeport n° {}", "pasaporte {}", '{"passport_number": "{}"}', "护照号码 {}", "my passport is {}", "passportNo={}"))],
    "drivers_licence": [(people.licence, ("driver's license {}", "Driver License: {}", "driving licence {}", "Führerschein {}", "permis de conduire {}", '{"drivers_license": "{}"}', "licence number {}", "DL# {}", "patente di guida {}"))],
    "bitcoin": [(numbers.bitcoin, ANYWHERE)],
    "ethereum": [(numbers.ethereum, ANYWHERE)],
    "us_ssn": [(numbers.us_ssn, ANYWHERE), (lambda r: numbers.us_ssn(r).replace("-", ""), both("SSN", "social security number"))],
    "us_itin": [(numbers.us_itin, ANYWHERE), (lambda r: numbers.us_itin(r).replace("-", ""), both("ITIN"))],
    "gb_nino": [(numbers.gb_nino, both("National Insurance number", "NINO", "NI number"))],
    "gb_nhs": [(numbers.gb_nhs, both("NHS number", "NHS"))],
    "de_idnr": [(numbers.de_idnr, both("Steuer-ID", "IdNr", "Steueridentifikationsnummer", "Tax ID"))],
    "fr_nir": [(numbers.fr_nir, ANYWHERE)],
    "es_dni": [(numbers.es_dni, (*ANYWHERE, *both("DNI")))],
    "es_nie": [(numbers.es_nie, ANYWHERE)],
    "it_codice_fiscale": [(numbers.it_codice_fiscale, ANYWHERE), (lambda r: numbers.it_codice_fiscale(r).lower(), both("codice fiscale"))],
    "nl_bsn": [(numbers.nl_bsn, both("BSN", "burgerservicenummer"))],
    "pl_pesel": [(numbers.pl_pesel, both("PESEL"))],
    "br_cpf": [(numbers.br_cpf, ANYWHERE), (lambda r: numbers.br_cpf(r).replace(".", "").replace("-", ""), both("CPF"))],
    "br_cnpj": [(numbers.br_cnpj, ANYWHERE)],
    "in_aadhaar": [(numbers.in_aadhaar, both("Aadhaar", "Aadhaar number", "aadhar"))],
    "in_pan": [(numbers.in_pan, both("PAN", "PAN card"))],
    "ca_sin": [(numbers.ca_sin, both("SIN", "social insurance number"))],
    "se_personnummer": [(numbers.se_personnummer, both("personnummer"))],
    "fi_hetu": [(numbers.fi_hetu, ANYWHERE)],
    "no_fodselsnummer": [(numbers.no_fodselsnummer, both("fødselsnummer", "fnr"))],
    "dk_cpr": [(numbers.dk_cpr, both("CPR", "CPR-nummer"))],
    "be_nn": [(numbers.be_nn, both("rijksregisternummer", "INSZ", "numéro national"))],
    "ch_ahv": [(numbers.ch_ahv, ANYWHERE)],
    "at_vnr": [(numbers.at_vnr, both("SVNR", "Sozialversicherungsnummer"))],
    "ie_pps": [(numbers.ie_pps, both("PPS number", "PPSN"))],
    "pt_nif": [(numbers.pt_nif, both("NIF", "contribuinte"))],
    "cz_rc": [(numbers.cz_rc, (*ANYWHERE, "rodné číslo {}"))],
    "ro_cnp": [(numbers.ro_cnp, both("CNP"))],
    "bg_egn": [(numbers.bg_egn, both("EGN", "ЕГН"))],
    "hr_oib": [(numbers.hr_oib, both("OIB"))],
    "gr_amka": [(numbers.gr_amka, both("AMKA", "ΑΜΚΑ"))],
    "tr_tckn": [(numbers.tr_tckn, both("TC Kimlik No", "TCKN"))],
    "za_id": [(numbers.za_id, both("ID number", "SA ID"))],
    "cn_ric": [(numbers.cn_ric, ANYWHERE)],
    "kr_rrn": [(numbers.kr_rrn, ANYWHERE)],
    "mx_curp": [(numbers.mx_curp, ANYWHERE)],
    "cl_rut": [(numbers.cl_rut, ANYWHERE)],
    "ar_cuit": [(numbers.ar_cuit, ANYWHERE)],
    "au_tfn": [(numbers.au_tfn, both("TFN", "tax file number"))],
    "il_id": [(numbers.il_id, both("Teudat Zehut", "תעודת זהות"))],
    "th_pin": [(numbers.th_pin, both("Thai ID", "บัตรประชาชน"))],
    "ip_address": [(people.ipv4, (*ANYWHERE, "http://{}:8080/x", "from {}:55012 to db", "{}, 10.0.0.1")), (people.ipv6, (*ANYWHERE, "[{}]:443"))],
    "private_ip": [(people.private_ip, (*ANYWHERE, "http://{}:8080/x"))],
    "mac_address": [(people.mac, ANYWHERE)],
    "database_url": [(secrets.userinfo, ("postgresql://{}@db.internal:5432/prod", "DATABASE_URL=mysql://{}@127.0.0.1/app", "mongodb+srv://{}@cluster0.mongodb.net/?w=1", "redis://{}@cache:6379/0", "could not connect to amqp://{}@mq:5672/: refused"))],
    "connection_string": [(secrets.password, ("Server=tcp:db,1433;User ID=app;Password={};Encrypt=true", "Data Source=db;Initial Catalog=x;uid=sa;pwd={};"))],
    "url_credentials": [(lambda r: "u" + secrets.userinfo(r), ("git clone https://{}@git.example.com/a.git", "proxy=http://{}@10.1.1.1:3128", "see https://{}@example.com/path?x=1"))],
    "url_token": [(lambda r: secrets.hexadecimal(r, 40), ("GET /v1/x?access_token={}&n=1", "https://example.com/cb?code={}", "https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature={}", "wss://example.com/ws?token={}", "https://a.blob.core.windows.net/c?sv=2022&sig={}&se=2026"))],
    "jwt": [(secrets.jwt, SECRET)],
    "private_key": [(secrets.private_key, ("{}", "my key:\n{}\nwhy is it refused?", "cat id_rsa\n{}\n", '{"key": "{}"}'))],
    "openai_key": [(secrets.openai_key, SECRET)],
    "anthropic_key": [(secrets.anthropic_key, SECRET)],
    "aws_access_key": [(secrets.aws_access_key, SECRET)],
    "aws_secret_key": [(secrets.aws_secret_key, ("aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}", '"secretAccessKey": "{}"', "export AWS_SECRET_ACCESS_KEY='{}'", "AWS secret key: {}"))],
    "google_key": [(secrets.google_key, SECRET)],
    "azure_key": [(secrets.azure_storage, ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=core.windows.net", 'account_key="{}"')), (secrets.azure_bus, ("Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=r;SharedAccessKey={}",))],
    "github_token": [(secrets.github_token, SECRET)],
    "gitlab_token": [(secrets.gitlab_token, SECRET)],
    "slack_token": [(secrets.slack_token, SECRET), (secrets.slack_webhook, ("https://hooks.slack.com/{}", "curl -X POST https://hooks.slack.com/{} -d x"))],
    "stripe_key": [(secrets.stripe_key, SECRET)],
    "huggingface_token": [(secrets.huggingface_token, SECRET)],
    "model_provider_key": [(secrets.model_provider_key, SECRET)],
    "sendgrid_key": [(secrets.sendgrid_key, SECRET)],
    "twilio_key": [(secrets.twilio_key, SECRET)],
    "package_token": [(secrets.package_token, SECRET)],
    "vendor_token": [(secrets.vendor_token, SECRET)],
    "authorization": [(lambda r: secrets.text(r, secrets.URLSAFE, 40), ("Authorization: Bearer {}", "-H 'authorization: bearer {}'", '{"Authorization": "Bearer {}"}', "headers={'Authorization': 'Token {}'}"))],
    "basic_auth": [(people.basic, ("Authorization: Basic {}", '{"authorization": "Basic {}"}'))],
    "cookie": [(lambda r: f"sid={secrets.text(r, secrets.ALNUM, 32)}; theme=dark", ("Cookie: {}", "Set-Cookie: {}", '"cookie": "{}"'))],
    "api_secret": [(lambda r: secrets.text(r, secrets.ALNUM, 32), ("api_key={}", "API key: {}", '{"client_secret": "{}"}', "export ACME_AUTH_TOKEN={}", "secret_key = '{}'", "x-api-key: {}", '{"apiKey":"{}"}', "webhook_secret: {}", "access token = {}", "my api key is {}"))],
    "password": [(secrets.password, ("password: {}", "password={}", '{"password": "{}"}', "my password is {}", "Passwort: {}", "contraseña: {}", "mot de passe : {}", "пароль: {}", "密码：{}", "DB_PASSWORD={}", "pwd = '{}'"))],
}  # fmt: skip


def positives(seed: int = SEED) -> list[Case]:
    """The same ones every time."""
    random = Random(seed)
    return [
        case(random, detector, make, carriers)
        for detector, kinds in KINDS.items()
        for make, carriers in kinds
        for _ in range(EACH)
    ]


def case(random: Random, detector: str, make: Callable[[Random], str], carriers: Carriers) -> Case:
    carrier, value = random.choice(carriers), make(random)
    before, _, after = carrier.partition("{}")
    if carrier.startswith('{"'):  # a JSON document: its escapes are read before it is scanned
        value = json.loads(f'"{value}"') if "\n" not in value else value
    return Case(detector, before + value + after, value)
