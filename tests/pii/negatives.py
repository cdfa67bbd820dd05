"""What must not be found, though it looks like it: 300 texts and more, each of which is about something harmless."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator
from random import Random

from tests.pii import numbers, secrets
from tests.pii.numbers import digits

SEED = 20_260_802

CURATED = r"""
gpt-4o-2024-08-06 claude-3-5-sonnet-20241022 gemini-1.5-pro-002 o3-mini-2025-01-31 text-embedding-3-large
mistral-large-2407, llama-3.1-405b-instruct, qwen2.5-72b, command-r-plus-08-2024, anthropic.claude-3-haiku-20240307-v1:0
azure/gpt-4o-mini-2024-07-18 via eu-west-1 (deployment prod-0125-preview)
max_tokens: 4096, temperature: 0.7, top_p: 1, n: 1, seed: 1234567890
{"prompt_tokens": 1523, "completion_tokens": 341, "total_tokens": 1864, "cached_tokens": 1024, "reasoning_tokens": 0}
gen_ai.usage.input_tokens=123456 gen_ai.usage.output_tokens=7890123 cost=0.0012345678
cost 0.00012345678901234 USD, latency 1234.5678901 ms, 12,345,678.90 tokens in total
token_count: 1234567890123456, tokens=5000000, token budget 20000000
next_page_token=CAUQAA12ab34cd56ef78 and continuation_token: 9f8e7d6c5b4a39281706
eos_token: 128009abcdef12, pad_token=tok1234567890ab, bos_token "tok9876543210cd"
2024-08-06T12:30:45.123456789Z 2024-08-06 12:30:45,123 06/Aug/2024:12:30:45 +0000 Tue, 06 Aug 2024 12:30:45 GMT
06.08.2024 12:30 Uhr bis 07.08.2024 09:15 Uhr, 2024/08/06 23:59:59, 08-06-2024 11:22:33 PM
epoch 1722945600, 1722945600123, 1722945600123456, 1722945600123456789
20240806123045 backup-20240806-123045.tar.gz run_20240806T123045 snapshot.2024.08.06
timezone offset +0200, -0530; T12:30:45+02:00; UTC+05:30
version 1.2.3.4, v10.0.19045.4170, Version: 6.1.7601.17514, release 2024.8.1.2
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0
OpenAI/Python 1.51.0, python-httpx/0.27.2, aiohttp/3.10.5, grpc-python/1.66.1
pip install numpy==2.1.1 pandas==2.2.3 torch==2.4.1+cu121 package==1.2.3.4
npm install lodash@4.17.21 react@18.3.1 @types/node@20.14.10 typescript@5.5.0-beta next@15.0.0-canary.124
docker pull ghcr.io/example/app:1.2.3@sha256:0f9e8d7c6b5a49382716f5e4d3c2b1a00f9e8d7c6b5a49382716f5e4d3c2b1a0
uses: actions/checkout@v4 uses: docker/build-push-action@v6.7.0
@app.route("/users/<int:id>") @pytest.fixture(scope="session") @dataclass(frozen=True) @property
logits = hidden@self.lm_head.weight.T + bias; y = x@W; z = q@k.mT
git clone git@github.com:example/project.git && git push git@gitlab.com:example/x.git
ssh deploy@build-host 'uptime'; scp file root@localhost:/tmp
user@localhost, root@db, admin@[internal]
icon@2x.png logo@3x.webp sprite@2x.css
@media (min-width: 1024px) { .a { color: #aabbcc } } @import url("x.css")
diff --git a/x.py b/x.py @@ -12,7 +12,9 @@ def main(): index 83db48f..bf2a1c3 100644
commit 5ae7149a7287e9ef42498084541fc8bbd1862b7e (HEAD -> main, tag: v1.2.3)
traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 parent_id=b7ad6b7169203331
X-Request-Id: req_011CSHoEeqs5C35K2UUqR7Fy; cf-ray: 8ae1b2c3d4e5f607-FRA
chatcmpl-A1b2C3d4E5f6G7h8I9j0K1l2M3n4O resp_68a1b2c3d4e5f60718293a4b5c6d7e8f msg_01XFDUDYJgAACzvnptvVoYEL
call_abc123DEF456ghi789JKL012 toolu_01A09q90qw90lq917835lq9 fc_68a1b2c3d4e5f607 run_abc123 thread_abc123 asst_abc123
file-abc123DEF456ghi789 batch_68a1b2c3 vs_68a1b2c3d4e5f607 ft:gpt-4o-mini-2024-07-18:acme:support:9abcdEFG
system_fingerprint fp_44709d6fcb, request id 9c5b94b1-35ad-49bb-b118-8e8fc24abf80
listening on 127.0.0.1:4317, 0.0.0.0:8080, [::1]:9090, localhost:5432
connect 10.0.3.17:443, 192.168.1.1, 172.16.254.1:22, 169.254.169.254, fe80::1, fd12:3456:789a::1
host:port pairs api.openai.com:443, redis-master-0:6379, kafka-1:9092,kafka-2:9092
kafka://broker-1:9092,broker-2:9092/topic postgresql://localhost:5432/prod redis://cache:6379/0
postgresql://${DB_USER}:${DB_PASSWORD}@db/prod mysql://<user>:<password>@host/db mongodb://{user}:{pw}@host
http://localhost:8080/@user https://medium.com/@someone/article-1234567890ab https://example.com:443/a?b=c@d
std::vector<std::pair<int, int>> a::b::c Foo::Bar 12:30:45:123 1:2:3:4:5:6
sizes 256-512-1024, 128 x 256 x 512, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
0.1 0.2 0.3 0.4; 1e-05 2.5e+10 6.02214076e23; 3.14159265358979323846
-122.4194155, 37.7749295; 52.520008, 13.404954; lat=48.858093 lon=2.294694
order 112-7736582-1234567, invoice INV-2024-000123, PO 4500012345, ticket #123456789
tracking 1Z999AA10123456784, parcel 00340434161094042557, container MSKU1234565
ISBN 978-3-16-148410-0, ISBN 9783161484100, EAN 4006381333931, ISSN 1234-5679, UPC 036000291452
doi:10.1038/s41586-024-07487-w arXiv:2407.21783 RFC 7519, RFC 9110 section 1.2.3.4, PMID 34567890
VIN 1HGCM82633A004352, IMEI 490154203237518, serial C02XG2JHJGH5, asset 0000123456
arn:aws:iam::123456789012:role/service-role/app arn:aws:bedrock:us-east-1:123456789012:model/x
projects/123456789012/locations/europe-west1 subscription 0b1f6471-1bf0-4dda-aec3-111122223333
pod api-7d9f8b6c5d-x2x4z in ns-3f2a1b node ip-10-0-12-34.eu-central-1.compute.internal
s3://bucket/2024/08/06/part-00000-4bf92f35-77b3-4da6-a3ce-929d0e0e4736.snappy.parquet
color: #ff00aa; rgba(255, 0, 170, 0.5); #123456 #abcdef12
0xdeadbeef 0x7fff5fbff8c0 0x4bf92f3577b34da6a3ce929d0e0e4736 at address 0x00007f3a2b1c4d5e
cron: 0 12 * * 1-5; 30 2 1,15 * *; */5 * * * *
SELECT id, amount FROM payments WHERE id = 1234567 AND created_at > '2024-08-06' LIMIT 1000
http_requests_total{code="200",method="post"} 1027 1395066363000
Dockerfile: FROM python:3.11-slim@sha256:abc, EXPOSE 8080 4317 4318
api_key: os.environ["OPENAI_API_KEY"], token = settings.AUTH_TOKEN_V2, secret=config.get("secret")
OPENAI_API_KEY=YOUR_API_KEY_GOES_HERE_123, api_key="<your-api-key-1234>", token=xxxxxxxxxxxxxxxxxxxx
api_key = "sk-..." # put yours here; sk-1234 is the proxy's default; sk-xxxxxxxxxxxxxxxx
Authorization: Bearer ${ACCESS_TOKEN}, Authorization: Bearer <token>, bearer authentication is required
client_secret: {{ vault "kv/app#client_secret_1" }}, password: {{ .Values.db.password1 }}
password: required|string|min:8, password = getpass.getpass(), password: Optional[str] = None
password="********", password: [hidden], pwd: /home/app/src, PWD=/opt/app-1.2, passwords: 12
The password must have 12 characters. Forgot your password? Reset password: link expires in 24h
"password": {"type": "string", "minLength": 8}, "token": {"type": "string"}
basic information about auth; Basic realm="Restricted"; basic tier
Cookie: theme=dark; lang=en-US; consent=yes  Set-Cookie: lang=de; Max-Age=31536000; SameSite=Lax
secret: /run/secrets/db_password_1, token_path: /var/run/secrets/kubernetes.io/serviceaccount/token
secret santa: draw 2024, the secret is out, token ring, key findings: 42
https://example.com/list?key=products-2024&page=2&sort=desc&id=123456789
https://example.com/?token=YOUR_TOKEN&code=404&state=open&sig=none
https://www.example.com/watch?v=dQw4w9WgXcQ&t=43s&list=PL1234567890
data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==
-----BEGIN PUBLIC KEY----- -----BEGIN CERTIFICATE----- -----BEGIN PGP MESSAGE-----
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdWb1u9q0x2m3n4b5v6c7x8z9a0s1d2f3g4h5j6k7l8 host
pk_live_51H8abcdEFGHijkl is a publishable key; pk-lf-1234 is public as well
SSN is required on form W-2; do not send SSNs by mail. ssn: null
the passport office opens at 9; passport.js 0.7.0; passport expired in 2019; passport valid until 20291231
driver license: Apache-2.0; licence number of files 42; the driver's licence costs 65 pounds
born in the cloud, born 1984 in a small town, a born leader; birthday: tomorrow; DOB required
date of birth must be YYYY-MM-DD; Geburtsdatum fehlt; fecha de nacimiento no válida
call me in 5 minutes, tel quel, mobile first, phone: unknown, fax: n/a, cell B12 to F34
telephone support 24/7, 365 days; phone model SM-G998B; iPhone 15, Pixel 8
sin(x) + cos(274.143338), original sin, sin 30 = 0.5; pan and zoom 100%, frying pan 24 cm; tin can 330 ml
PAN-OS 10.1.6-h6, IBAN is missing, BSN pending, NIF: n/a, CPF inválido, PESEL brak
bitcoin rose 4.5% to 64,123.45 USD; block 854321; difficulty 86871474313761
GB12 ABCD 1234, DE123456789 (VAT), FR 40 303 265 045, ATU12345678, NL001234567B01
SKU AB-123-456, part 123-456-78, model 12-345-6789-A, bin 411111, last four 1111
4111 1111 1111 1112 is refused; 5500 0000 0000 0005 has a typo; 1234 5678 9012 3456 too
room 0800-1234, extension 4711, dial 0, zip 90210-1234, CEP 01310-100, 75008 Paris, SW1A 1AA
score 6-3 7-6 6-4, ratio 16:9, 3/4 cup, 1/2 inch, 24/7, chapter 1-2-3-4, lottery 01-07-12-23-31
Jan 6 2024 1 2 3 4, item 0.1.2.3, section 4.3.2.1, table 2.1.3.4, fig. 1.2.3.4
matrix [[0.123456789, 0.987654321], [1234567.0, 7654321.0]]
ETag: "33a64df551425fcc55e4d42a148795d9f25f89d4"; Content-Length: 1234567890; Age: 86400
ghp_ is the prefix, xoxb- too; hf_hub_download("org/model"); npm_config_cache; sk_test_; AKIA...; AIza...
hvs.status ok; key-value store; secret_name=db; glpat docs; SG.com; SK of Slovakia; do_v1
eyJ is how base64 of { begins; eyJhbGciOiJIUzI1NiJ9 alone is a header; abc.def.ghi
T1059.001, CVE-2024-12345, CWE-79, GHSA-c74f-6mfw-mm4v, KB5034441
1-1913-27423-15-2 756.7082.2765.48 20.465.446-9 208.312.402-28 660709/9005
""".strip().splitlines()


def spoilt(random: Random, make: Callable[[Random], str]) -> str:
    """A number whose check digit is wrong: its last digit is another one."""
    value = make(random)
    place = max(at for at, char in enumerate(value) if char.isdigit())
    return value[:place] + str((int(value[place]) + random.choice([1, 2, 3])) % 10) + value[place + 1 :]


CHECKED = {
    "card {}": numbers.card,
    "IBAN {}": numbers.iban,
    "BSN {}": numbers.nl_bsn,
    "PESEL: {}": numbers.pl_pesel,
    "NHS number {}": numbers.gb_nhs,
    "Steuer-ID {}": numbers.de_idnr,
    "numéro {}": numbers.fr_nir,
    "CPF {}": numbers.br_cpf,
    "CNPJ {}": numbers.br_cnpj,
    "Aadhaar {}": numbers.in_aadhaar,
    "SIN {}": numbers.ca_sin,
    "personnummer {}": numbers.se_personnummer,
    "fnr {}": numbers.no_fodselsnummer,
    "AHV {}": numbers.ch_ahv,
    "CNP {}": numbers.ro_cnp,
    "OIB {}": numbers.hr_oib,
    "TCKN {}": numbers.tr_tckn,
    "身份证 {}": numbers.cn_ric,
    "RUT {}": numbers.cl_rut,
    "CUIL {}": numbers.ar_cuit,
    "TFN {}": numbers.au_tfn,
    "CURP {}": numbers.mx_curp,
}


def generated(random: Random) -> Iterator[str]:
    """Ids, hashes, times and blobs, as they stand in telemetry; and numbers with a wrong check digit."""
    for _ in range(8):
        name = random.choice(["id", "session", "request", "conversation", "key_id", "user"])
        yield f"{name}={uuid.UUID(int=random.getrandbits(128), version=4)}"
        yield f"{hashlib.sha256(random.randbytes(4)).hexdigest()}  dist/app-1.{random.randint(0, 99)}.tar.gz"
        yield f"md5 {hashlib.md5(random.randbytes(4)).hexdigest()} sha1 {hashlib.sha1(random.randbytes(4)).hexdigest()}"
        yield f"trace {random.getrandbits(128):032x} span {random.getrandbits(64):016x} flags 01"
        yield f'{{"id": "chatcmpl-{secrets.text(random, secrets.ALNUM, 29)}", "created": {random.randint(1.6e9, 1.8e9):.0f}}}'
        yield f"tool call call_{secrets.text(random, secrets.ALNUM, 24)} of msg_{secrets.text(random, secrets.ALNUM, 24)}"
        yield f"at {random.randint(1.6e9, 1.8e9):.0f}.{digits(random, 6)} took {random.random():.12f}s"
        yield f"start_ns={random.randint(1.6e18, 1.8e18):.0f} end_ns={random.randint(1.6e18, 1.8e18):.0f} ms={random.randint(1.6e12, 1.8e12):.0f}"
        yield f"{random.randint(2000, 2026)}-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}T{random.randint(0, 23):02d}:{random.randint(0, 59):02d}:{random.randint(0, 59):02d}.{digits(random, 6)}Z level=info"
        yield f"usage: {random.randint(1, 10**7)} in, {random.randint(1, 10**6)} out, ${random.random():.10f}, {random.randint(10**9, 10**10)} total"
        yield f"embedding [{', '.join(f'{random.uniform(-1, 1):.16f}' for _ in range(4))}]"
        yield "image " + base64.b64encode(random.randbytes(300)).decode()
        yield f"order {random.randint(100, 999)}-{digits(random, 7)}-{digits(random, 7)} shipped, ref {digits(random, 12, '1')}"
        yield f"{random.randint(0, 20)}.{random.randint(0, 99)}.{random.randint(0, 999)}-rc.{random.randint(0, 9)}+build.{digits(random, 8)}"
        yield f"version {'.'.join(str(random.randint(0, 99)) for _ in range(4))} is out"
        yield f"worker-{random.randint(0, 99)}-{secrets.text(random, 'abcdefghijklmnopqrstuvwxyz0123456789', 5)} pid {random.randint(1, 10**6)} port {random.randint(1024, 65535)}"
    for carrier, make in CHECKED.items():
        for _ in range(5):
            yield carrier.format(spoilt(random, make))


def negatives(seed: int = SEED) -> list[str]:
    """The same ones every time."""
    return [*CURATED, *generated(Random(seed))]
