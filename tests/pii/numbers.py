"""Numbers with valid check digits, made from what their issuers publish: none of the product's checks is used here.

Each function takes a `random.Random` and gives the number as it is usually written.
"""

from __future__ import annotations

import hashlib
from random import Random

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def digits(random: Random, count: int, first: str = "0123456789") -> str:
    return random.choice(first) + "".join(random.choice("0123456789") for _ in range(count - 1))


def letters(random: Random, count: int, alphabet: str = LETTERS) -> str:
    return "".join(random.choice(alphabet) for _ in range(count))


def grouped(text: str, sizes: tuple[int, ...], separator: str = " ") -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return separator.join(part for part in [*parts, text[at:]] if part)


def weighted(number: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True))


def date(random: Random, low: int = 1940, high: int = 2006) -> tuple[int, int, int]:
    return random.randint(low, high), random.randint(1, 12), random.randint(1, 28)


# Cards and accounts


def luhn_digit(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


CARDS = {  # prefix → length
    "4": 16,
    "51": 16,
    "55": 16,
    "2221": 16,
    "2720": 16,
    "34": 15,
    "37": 15,
    "6011": 16,
    "65": 16,
    "3528": 16,
    "3589": 16,
    "36": 14,
    "300": 14,
    "62": 16,
    "6759": 16,
    "2200": 16,
}


def card(random: Random) -> str:
    prefix = random.choice(list(CARDS))
    length = CARDS[prefix]
    body = prefix + digits(random, length - 1 - len(prefix))
    number = body + luhn_digit(body)
    sizes = {16: (4, 4, 4), 15: (4, 6), 14: (4, 6)}[length]
    return random.choice([number, grouped(number, sizes), grouped(number, sizes, "-")])


IBANS = {  # country → BBAN: n digits, a letters
    "DE": "n18", "GB": "a4n14", "FR": "n23", "NL": "a4n10", "ES": "n20", "IT": "a1n22", "BE": "n12", "AT": "n16", "CH": "n17",
    "PL": "n24", "SE": "n20", "NO": "n11", "DK": "n14", "FI": "n14", "PT": "n21", "IE": "a4n14", "CZ": "n20", "HU": "n24",
    "RO": "a4n16", "GR": "n23", "LU": "n16", "SA": "n20", "AE": "n19", "TR": "n22", "MT": "a4n23", "BR": "n23a1n1",
}  # fmt: skip


def iban(random: Random) -> str:
    country = random.choice(list(IBANS))
    shape, bban = IBANS[country], ""
    while shape:
        kind, shape = shape[0], shape[1:]
        size = "".join(iter_digits(shape))
        shape = shape[len(size) :]
        bban += digits(random, int(size)) if kind == "n" else letters(random, int(size))
    number = int("".join(str(int(char, 36)) for char in bban + country + "00"))
    text = f"{country}{98 - number % 97:02d}{bban}"
    return random.choice([text, grouped(text, (4,) * (len(text) // 4)), text.lower()])


def iter_digits(text: str) -> list[str]:
    found: list[str] = []
    for char in text:
        if not char.isdigit():
            break
        found.append(char)
    return found


# National ids


def us_ssn(random: Random) -> str:
    area = random.choice([number for number in range(1, 900) if number != 666])
    return f"{area:03d}-{random.randint(1, 99):02d}-{random.randint(1, 9999):04d}"


def us_itin(random: Random) -> str:
    group = random.choice([*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)])
    return f"9{random.randint(0, 99):02d}-{group}-{random.randint(0, 9999):04d}"


def gb_nino(random: Random) -> str:
    prefix = random.choice("ABCEGHJKLMNOPRSTWXYZ") + random.choice("ABCEGHJKLMNPRSTWXYZ")
    while prefix in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"} or "O" in prefix:
        prefix = random.choice("ABCEGHJKLMPRSTWXYZ") + random.choice("ABCEGHJKLMNPRSTWXYZ")
    number = prefix + digits(random, 6) + random.choice("ABCD")
    return random.choice([number, grouped(number, (2, 2, 2, 2))])


def gb_nhs(random: Random) -> str:
    while True:
        body = digits(random, 9, "4567")
        check = 11 - weighted(body, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
        if check != 10:
            return random.choice([f"{body}{check % 11}", grouped(f"{body}{check % 11}", (3, 3))])


def de_idnr(random: Random) -> str:
    """Of the first ten digits exactly one comes twice (not in a row of three); ISO 7064 mod 11, 10."""
    pool = random.sample("0123456789", 9)
    body = [*pool, random.choice(pool)]
    random.shuffle(body)
    while body[0] == "0":
        random.shuffle(body)
    product = 10
    for digit in body:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    number = "".join(body) + str((11 - product) % 10)
    return random.choice([number, grouped(number, (2, 3, 3))])


def fr_nir(random: Random) -> str:
    year, month, _ = date(random)
    place = random.choice([f"{random.randint(1, 95):02d}", "2A", "2B"])
    place = "21" if place == "20" else place
    body = f"{random.choice('12')}{year % 100:02d}{month:02d}{place}{random.randint(1, 989):03d}{random.randint(1, 999):03d}"
    value = int(body.replace("2A", "19").replace("2B", "18"))
    key = f"{97 - value % 97:02d}"
    return random.choice([body + key, grouped(body + key, (1, 2, 2, 2, 3, 3))])


def es_dni(random: Random) -> str:
    number = random.randint(1_000_000, 99_999_999)
    return f"{number:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def es_nie(random: Random) -> str:
    first, number = random.randint(0, 2), random.randint(0, 9_999_999)
    letter = "TRWAGMYFPDXBNJZSQVHLCKE"[(first * 10_000_000 + number) % 23]
    return f"{'XYZ'[first]}{number:07d}{letter}"


_ODD = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip(
        LETTERS,
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def it_codice_fiscale(random: Random) -> str:
    year, month, day = date(random)
    consonants = "BCDFGLMNPRSTVZ"
    body = (
        letters(random, 6, consonants)
        + f"{year % 100:02d}{'ABCDEHLMPRST'[month - 1]}{day + random.choice([0, 40]):02d}"
        + random.choice("ABCDFGHL")
        + f"{random.randint(101, 899)}"
    )
    total = 0
    for place, char in enumerate(body, 1):
        total += _ODD[char] if place % 2 else (int(char) if char.isdigit() else LETTERS.index(char))
    return body + LETTERS[total % 26]


def nl_bsn(random: Random) -> str:
    while True:
        body = digits(random, 8, "123456789")
        check = weighted(body, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
        if check < 10:
            return f"{body}{check}"


def pl_pesel(random: Random) -> str:
    year, month, day = date(random)
    month += 20 if year >= 2000 else 0
    body = f"{year % 100:02d}{month:02d}{day:02d}{digits(random, 4)}"
    return body + str(-weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def br_cpf(random: Random) -> str:
    number = digits(random, 9)
    for _ in range(2):
        rest = weighted(number, tuple(range(len(number) + 1, 1, -1))) % 11
        number += str(0 if rest < 2 else 11 - rest)
    return f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"


def br_cnpj(random: Random) -> str:
    number = digits(random, 8) + "0001"
    for weights in ((5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)):
        rest = weighted(number, weights) % 11
        number += str(0 if rest < 2 else 11 - rest)
    return f"{number[:2]}.{number[2:5]}.{number[5:8]}/{number[8:12]}-{number[12:]}"


def _verhoeff(body: str) -> str:
    """The digit that makes the product in the dihedral group D5 the identity."""

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    permutation = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    while len(permutation) < 8:
        permutation.append([permutation[1][place] for place in permutation[-1]])
    for check in range(10):
        total = 0
        for place, digit in enumerate(reversed(body + str(check))):
            total = times(total, permutation[place % 8][int(digit)])
        if total == 0:
            return str(check)
    raise AssertionError


def in_aadhaar(random: Random) -> str:
    while True:
        body = digits(random, 11, "23456789")
        number = body + _verhoeff(body)
        if number != number[::-1]:
            return random.choice([number, grouped(number, (4, 4))])


def in_pan(random: Random) -> str:
    return letters(random, 3) + "P" + letters(random, 1) + f"{random.randint(1, 9999):04d}" + letters(random, 1)


def ca_sin(random: Random) -> str:
    body = digits(random, 8, "12345679")
    number = body + luhn_digit(body)
    return random.choice([number, grouped(number, (3, 3)), grouped(number, (3, 3), "-")])


def se_personnummer(random: Random) -> str:
    year, month, day = date(random)
    body = f"{year % 100:02d}{month:02d}{day:02d}{digits(random, 3)}"
    tail = f"{body[6:]}{luhn_digit(body)}"
    return random.choice([f"{body[:6]}-{tail}", f"{year // 100}{body[:6]}-{tail}"])


def fi_hetu(random: Random) -> str:
    year, month, day = date(random)
    serial = random.randint(2, 899)
    day_part = f"{day:02d}{month:02d}{year % 100:02d}"
    check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(f"{day_part}{serial:03d}") % 31]
    return f"{day_part}{'-' if year < 2000 else 'A'}{serial:03d}{check}"


def no_fodselsnummer(random: Random) -> str:
    while True:
        year, month, day = date(random, 1940, 1999)
        body = f"{day:02d}{month:02d}{year % 100:02d}{random.randint(0, 499):03d}"
        first = -weighted(body, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
        if first == 10:
            continue
        second = -weighted(body + str(first), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
        if second < 10:
            return random.choice([f"{body}{first}{second}", f"{body[:6]} {body[6:]}{first}{second}"])


def dk_cpr(random: Random) -> str:
    year, month, day = date(random, 1940, 1999)
    return f"{day:02d}{month:02d}{year % 100:02d}-{random.randint(0, 3)}{digits(random, 3)}"


def be_nn(random: Random) -> str:
    year, month, day = date(random)
    body = f"{year % 100:02d}{month:02d}{day:02d}{random.randint(1, 997):03d}"
    check = 97 - int(("2" if year >= 2000 else "") + body) % 97
    text = f"{body}{check:02d}"
    return random.choice([text, f"{text[:2]}.{text[2:4]}.{text[4:6]}-{text[6:9]}.{text[9:]}"])


def ch_ahv(random: Random) -> str:
    body = "756" + digits(random, 9)
    check = -sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body)) % 10
    text = f"{body}{check}"
    return f"{text[:3]}.{text[3:7]}.{text[7:11]}.{text[11:]}"


def at_vnr(random: Random) -> str:
    while True:
        year, month, day = date(random)
        serial = f"{random.randint(100, 999)}"
        day_part = f"{day:02d}{month:02d}{year % 100:02d}"
        check = weighted(serial + day_part, (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
        if check < 10:
            return random.choice([f"{serial}{check}{day_part}", f"{serial}{check} {day_part}"])


def ie_pps(random: Random) -> str:
    body = digits(random, 7)
    return body + "WABCDEFGHIJKLMNOPQRSTUV"[weighted(body, (8, 7, 6, 5, 4, 3, 2)) % 23]


def pt_nif(random: Random) -> str:
    body = digits(random, 8, "123")
    rest = weighted(body, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return f"{body}{0 if rest < 2 else 11 - rest}"


def cz_rc(random: Random) -> str:
    while True:
        year, month, day = date(random, 1954, 2003)
        body = f"{year % 100:02d}{month + random.choice([0, 50]):02d}{day:02d}{digits(random, 3)}"
        check = int(body) % 11
        if check < 10:
            return f"{body[:6]}/{body[6:]}{check}"


def ro_cnp(random: Random) -> str:
    year, month, day = date(random)
    sex = random.choice("12") if year < 2000 else random.choice("56")
    body = f"{sex}{year % 100:02d}{month:02d}{day:02d}{random.randint(1, 46):02d}{random.randint(1, 999):03d}"
    check = weighted(body, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return f"{body}{1 if check == 10 else check}"


def bg_egn(random: Random) -> str:
    year, month, day = date(random)
    body = f"{year % 100:02d}{month + (40 if year >= 2000 else 0):02d}{day:02d}{digits(random, 3)}"
    return f"{body}{weighted(body, (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10}"


def hr_oib(random: Random) -> str:
    body, rest = digits(random, 10), 10
    for digit in body:
        rest = ((rest + int(digit)) % 10 or 10) * 2 % 11
    return f"{body}{(11 - rest) % 10}"


def gr_amka(random: Random) -> str:
    year, month, day = date(random)
    body = f"{day:02d}{month:02d}{year % 100:02d}{digits(random, 4)}"
    return body + luhn_digit(body)


def tr_tckn(random: Random) -> str:
    body = [int(digit) for digit in digits(random, 9, "123456789")]
    tenth = (7 * sum(body[::2]) - sum(body[1::2])) % 10
    return "".join(map(str, [*body, tenth, (sum(body) + tenth) % 10]))


def za_id(random: Random) -> str:
    year, month, day = date(random)
    body = f"{year % 100:02d}{month:02d}{day:02d}{digits(random, 4)}{random.choice('01')}8"
    return body + luhn_digit(body)


def cn_ric(random: Random) -> str:
    year, month, day = date(random)
    place = random.choice(["110101", "310104", "440106", "510104", "330102"])
    body = f"{place}{year}{month:02d}{day:02d}{digits(random, 3)}"
    weights = tuple(2 ** (17 - place) % 11 for place in range(17))
    return body + "10X98765432"[weighted(body, weights) % 11]


def kr_rrn(random: Random) -> str:
    year, month, day = date(random)
    sex = random.choice("12") if year < 2000 else random.choice("34")
    body = f"{year % 100:02d}{month:02d}{day:02d}{sex}{random.randint(0, 94):02d}{digits(random, 3)}"
    check = (11 - weighted(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    return f"{body[:6]}-{body[6:]}{check}"


def mx_curp(random: Random) -> str:
    year, month, day = date(random, 1940, 1999)
    body = (
        random.choice("BCDFGLMNPRS")
        + random.choice("AEIO")
        + letters(random, 2, "BCDFGLMNPR")
        + f"{year % 100:02d}{month:02d}{day:02d}"
        + random.choice("HM")
        + random.choice(["DF", "JC", "NL", "OC", "PL", "VZ"])
        + letters(random, 3, "BCDFGLMNPRST")
        + "0"
    )
    alphabet = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(alphabet.index(char) * (18 - place) for place, char in enumerate(body))
    return f"{body}{-total % 10}"


def cl_rut(random: Random) -> str:
    number = random.randint(5_000_000, 25_999_999)
    total, factor = 0, 2
    for digit in reversed(str(number)):
        total += int(digit) * factor
        factor = 2 if factor == 7 else factor + 1
    check = "0123456789K0"[11 - total % 11]
    return f"{number:,}-{check}".replace(",", ".")


def ar_cuit(random: Random) -> str:
    while True:
        body = random.choice(["20", "23", "24", "27"]) + digits(random, 8)
        check = -weighted(body, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
        if check < 10:
            return f"{body[:2]}-{body[2:]}-{check}"


def au_tfn(random: Random) -> str:
    while True:
        body = digits(random, 8, "123456789")
        rest = weighted(body, (1, 4, 3, 7, 5, 8, 6, 9))
        check = next((digit for digit in range(10) if (rest + 10 * digit) % 11 == 0), None)
        if check is not None:
            return random.choice([f"{body}{check}", grouped(f"{body}{check}", (3, 3))])


def il_id(random: Random) -> str:
    body = digits(random, 8, "123")
    return body + luhn_digit(body)


def th_pin(random: Random) -> str:
    body = digits(random, 12, "12345678")
    check = (11 - weighted(body, tuple(range(13, 1, -1))) % 11) % 10
    text = f"{body}{check}"
    return random.choice([text, grouped(text, (1, 4, 5, 2), "-")])


# Wallets


def base58check(payload: bytes) -> str:
    full = payload + hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    value, text = int.from_bytes(full, "big"), ""
    while value:
        value, rest = divmod(value, 58)
        text = BASE58[rest] + text
    return "1" * (len(full) - len(full.lstrip(b"\0"))) + text


def bech32(version: int, program: bytes) -> str:
    """BIP 173 for version 0, BIP 350 for later ones."""
    bits = "".join(f"{byte:08b}" for byte in program)
    bits += "0" * (-len(bits) % 5)
    data = [version, *(int(bits[at : at + 5], 2) for at in range(0, len(bits), 5))]

    def polymod(values: list[int]) -> int:
        check = 1
        for value in values:
            top = check >> 25
            check = (check & 0x1FFFFFF) << 5 ^ value
            for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                check ^= generator if top >> bit & 1 else 0
        return check

    prefix = [ord(char) >> 5 for char in "bc"] + [0] + [ord(char) & 31 for char in "bc"]
    check = polymod(prefix + data + [0] * 6) ^ (1 if version == 0 else 0x2BC830A3)
    return "bc1" + "".join(BECH32[value] for value in data + [check >> 5 * (5 - place) & 31 for place in range(6)])


def bitcoin(random: Random) -> str:
    return random.choice(
        [
            base58check(b"\0" + random.randbytes(20)),
            base58check(b"\5" + random.randbytes(20)),
            bech32(0, random.randbytes(20)),
            bech32(1, random.randbytes(32)),
        ]
    )


def ethereum(random: Random) -> str:
    return "0x" + random.randbytes(20).hex()
