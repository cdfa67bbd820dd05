"""Exact checks, by name: a closer look at what a pattern found. They run on hits only.

`stdnum.<module>` is the check of that module of python-stdnum (`stdnum.nl.bsn`); the others are declared here and in
`secrecy.py`. A check that raises makes its text one that cannot be scanned: it is dropped, not let through.
"""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import re
from collections.abc import Callable
from functools import cache

from stdnum import bitcoin as stdnum_bitcoin
from stdnum import iban as stdnum_iban

from processors.redaction import secrecy

Check = Callable[[str], bool]

#: First digits of payment cards, and how many digits they have.
_CARDS = (
    (r"4", (13, 16, 19)),  # Visa
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
    (r"3[47]", (15,)),  # American Express
    (r"6011|64[4-9]|65", (16, 17, 18, 19)),  # Discover, RuPay
    (r"30[0-5]|3095|36|3[89]", (14, 15, 16, 17, 18, 19)),  # Diners Club
    (r"352[89]|35[3-8]", (16, 17, 18, 19)),  # JCB
    (r"62|81", (16, 17, 18, 19)),  # UnionPay
    (r"50[0-9]{2}|5[678]|6304|6390|67", (16, 17, 18, 19)),  # Maestro, Elo, Verve
    (r"220[0-4]", (16, 17, 18, 19)),  # Mir
    (r"60[0-9]|82|508|9792", (16,)),  # RuPay, Hipercard, Troy
)
_CARD_PREFIXES = tuple((re.compile(prefix), lengths) for prefix, lengths in _CARDS)
#: Country calling codes; the rest of a number is a national number.
_CALLING_CODES = re.compile(
    r"1|7|2[07]|21[1-368]|2[2-4]\d|25[0-8]|26\d|29[01789]|3[0-469]|35\d|37[0-8]|38[0125-79]|4[013-9]|42[013]"
    r"|5[1-8]|50\d|59\d|6[0-6]|67[02-9]|68\d|69[0-2]|8[1246]|80[08]|85[02356]|87[08]|88[0268]|9[0-58]|96[0-8]|97[0-79]|99[2-68]"
)
#: Endings that are no top-level domain but those of files and of attributes in code.
_NO_DOMAIN = re.compile(
    r"png|jpe?g|gif|svg|webp|avif|ico|bmp|s?css|[cm]?js|[jt]sx|json|ya?ml|toml|xml|html?|txt|csv|pdf|exe|dll|whl|tgz|lock|patch"
    r"|route|weight|bias|shape|inv|grad|data|dtype|self|alpha|beta|canary|rc|snapshot"
)
_GIT_HOSTS = ("git@", "hg@", "svn@")
_MONTHS = (
    "jan|ene|gen|sty", "f[eé]|lut", "m[aä]r|maa|mrt", "apr|a[vb]r|kwi", "ma[yigj]|mei", "juin|jun|giu|cze", "juil|jul|lug|lip",
    "aug|ao[uû]|ago|sie", "se|wrz", "o[ck]t|ott|out|paź|paz", "nov|lis", "d[eiéz]|gru",
)  # fmt: skip
_MONTH = re.compile("|".join(f"(?P<m{number}>{names})" for number, names in enumerate(_MONTHS, 1)), re.IGNORECASE)
_DATE = re.compile(r"(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})|(?:19|20)\d{2}[./-]\d{1,2}[./-]\d{1,2})(?![./-]?\d)")


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text, flags=re.ASCII)


def luhn(text: str) -> bool:
    """Luhn's check digit is right, and the digits are not all the same."""
    digits = _digits(text)
    total = sum(map(int, digits[::-2])) + sum(map(_DOUBLED.__getitem__, digits[-2::-2]))
    return total % 10 == 0 and len(set(digits)) > 1


_DOUBLED = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}


def card(text: str) -> bool:
    """A payment card's number: first digits, length, check digit."""
    digits = _digits(text)
    return luhn(digits) and any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_PREFIXES)


def iban(text: str) -> bool:
    """The country's length and structure, and mod 97. Check digits inside a national account number are not looked at."""
    return bool(stdnum_iban.is_valid(text, check_country=False))


def email(text: str) -> bool:
    """An address whose domain can be one: no version, no file, no attribute in code (`q@k.mT`); and not a code host's
    common user."""
    local, _, domain = text.replace("%40", "@").rpartition("@")
    if re.search(r"[a-z][A-Z]", domain.rpartition(".")[2]):
        return False
    labels = domain.lower().split(".")
    version = len(labels) > 2 and labels[0].isdecimal() and labels[1].isdecimal()
    return not (version or _NO_DOMAIN.fullmatch(labels[-1]) or f"{local}@" in _GIT_HOSTS)


def phone(text: str) -> bool:
    """A telephone number that stands alone: `+` or 00 and a country's code, or a national number with its separators."""
    digits = _digits(text)
    if len(set(digits)) < 3 or _DATE.match(text.lstrip("(")) or len(re.findall(r" 0\d\b", text)) > 2:  # bytes, dumped
        return False
    if text.startswith("+") or (text.startswith("00") and len(digits) > 10):
        number = digits.removeprefix("00")
        code = _CALLING_CODES.match(number)
        if code is None or not 8 <= len(number) <= 15:
            return False
        if code[0] in {"1", "7"}:
            return len(number) == 11 and (code[0] == "7" or (number[1] in "23456789" and number[4] in "23456789"))
        return number[code.end()] != "0" or code[0] == "39" or "(0)" in text
    if digits.startswith("0"):
        return 7 <= len(digits) <= 12 and digits[1] != "0"
    digits = digits.removeprefix("1") if len(digits) == 11 and digits[0] == "1" and digits[1] in "23456789" else digits
    if re.fullmatch(r"\d{3}([ .])\d{3}\1\d{4}", text):  # the looser spellings of North America's plan
        return digits[0] in "23456789" and digits[1] != "9" and digits[3] in "23456789" and digits[1:3] != "11"
    return 7 <= len(digits) <= 12


def us_ssn(text: str) -> bool:
    """Areas, groups and serial numbers that are issued. Well-known invented ones pass: they stand for real ones."""
    digits = _digits(text)
    return (
        digits[:3] not in {"000", "666"} and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"
    ) and len(set(digits)) > 1


def us_itin(text: str) -> bool:
    """Groups that the IRS has issued since 2011."""
    digits = _digits(text)
    group = int(digits[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94


def gb_nino(text: str) -> bool:
    """A prefix that is in use, or QQ, which examples have."""
    prefix = text[:2].upper()
    return prefix == "QQ" or (
        not set(prefix) & set("DFIQUV")
        and prefix[1] != "O"
        and prefix not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}
    )


def cn_ric(text: str) -> bool:
    """A date of birth, and ISO 7064 mod 11-2."""
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper() and _is_date(
        int(text[6:10]), int(text[10:12]), int(text[12:14])
    )


def birth_date(text: str) -> bool:
    """A date that somebody alive may have been born on."""
    words = [found.lastgroup for word in re.findall(r"[^\W\d_]{3,}", text) if (found := _MONTH.match(word))]
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) == 1 and len(str(numbers[0])) == 8:
        year, month, day = numbers[0] // 10_000, numbers[0] // 100 % 100, numbers[0] % 100
        return _is_date(year, month, day)
    if words and words[0] and len(numbers) == 2:
        numbers.insert(1, int(words[0][1:]))
    if len(numbers) != 3:
        return False
    year, middle, day = numbers if numbers[0] > 31 else (numbers[2], numbers[1], numbers[0])
    years = [year] if year > 99 else [1900 + year, 2000 + year]
    return any(_is_date(one, middle, day) or _is_date(one, day, middle) for one in years)


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        return 1900 <= datetime.date(year, month, day).year <= datetime.datetime.now(datetime.UTC).year
    except ValueError:
        return False


def document_number(text: str) -> bool:
    """The number of a passport or a licence: digits enough, and no date."""
    digits = _digits(text)
    return len(digits) >= 4 and not _DATE.match(text) and not re.fullmatch(r"(?:19|20)\d\d(?:0\d|1[0-2])[0-3]\d", text)


def bitcoin(text: str) -> bool:
    """Base58check, bech32, and bech32m (taproot), which python-stdnum does not know."""
    if stdnum_bitcoin.is_valid(text):
        return True
    if not text.lower().startswith("bc1p") or text not in {text.lower(), text.upper()}:
        return False
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    values = [alphabet.find(char) for char in text.lower()[3:]]
    prefix = [ord(char) >> 5 for char in "bc"] + [0] + [ord(char) & 31 for char in "bc"]
    return -1 not in values and stdnum_bitcoin.bech32_checksum(prefix + values) == 0x2BC830A3


def public_ip(text: str) -> bool:
    """An address that can be somebody's: not of a private network, this machine, or a group. Examples' networks count."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return address in _GLOBAL_UNICAST
    return address.packed[0] not in {0, 127} and not any(address in network for network in _NOBODYS)


def private_ip(text: str) -> bool:
    """An address of a private network or of the link."""
    return any(ipaddress.ip_address(text) in network for network in _PRIVATE)


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "fe80::/10",
    )
)
_NOBODYS = (
    *_PRIVATE,
    *map(ipaddress.ip_network, ("192.0.0.0/24", "192.31.196.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3")),
)


def _valid(check: Check) -> Check:
    """A check for which ValueError means no."""

    def checked(text: str) -> bool:
        try:
            return check(text)
        except ValueError:
            return False

    return checked


def mac(text: str) -> bool:
    """Not all the same, and not only digits and dashes, as dates are."""
    return len(set(re.split(r"[:.-]", text))) > 1 and not (text.replace("-", "").isdecimal() and "-" in text)


_OWN: dict[str, Check] = {
    "birth_date": birth_date,
    "bitcoin": bitcoin,
    "card": card,
    "cn_ric": cn_ric,
    "document_number": document_number,
    "email": email,
    "gb_nino": gb_nino,
    "iban": iban,
    "luhn": luhn,
    "mac": mac,
    "phone": phone,
    "private_ip": _valid(private_ip),
    "public_ip": _valid(public_ip),
    "us_itin": us_itin,
    "us_ssn": us_ssn,
    **secrecy.CHECKS,
}


@cache
def named(name: str) -> Check:
    """The check of that name. Raises ValueError for none."""
    if name in _OWN:
        return _OWN[name]
    if re.fullmatch(r"stdnum(\.[a-z_0-9]+){1,2}", name):
        try:
            check = importlib.import_module(name).is_valid
        except (ImportError, AttributeError):
            pass
        else:
            return lambda text: bool(check(text.replace(".", "")))
    raise ValueError(f"no check is named {name!r}; there are {', '.join(sorted(_OWN))}, and stdnum.<module>")
