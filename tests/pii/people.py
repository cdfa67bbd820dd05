"""What people are reached, known and recognised by, besides numbers with check digits."""

from __future__ import annotations

import base64
from random import Random

from tests.pii.numbers import digits, letters

FIRST = ("jane", "wei", "olu", "maria", "jörg", "søren", "anna-lena", "d.", "ravi", "zoë", "o'brien", "ivan")
LAST = ("doe", "müller", "garcia", "tanaka", "van.dijk", "smith", "kowalska", "nguyen", "da.silva", "rossi")
DOMAINS = (
    "example.com",
    "mail.example.co.uk",
    "corp.example",
    "uni-köln.de",
    "example.museum",
    "xn--bcher-kva.example",
    "a.b.example.org",
    "gmail.com",
    "firma.io",
)


def email(random: Random) -> str:
    first, last = random.choice(FIRST), random.choice(LAST)
    local = random.choice(
        [f"{first}.{last}", f"{first}_{last}{random.randint(1, 99)}", f"{last}+news", f"{first[0]}{last}", last.upper()]
    )
    if "'" in local and not local.startswith("o'"):
        local = last
    return f"{local}@{random.choice(DOMAINS)}"


def phone_international(random: Random) -> str:
    """E.164, and ITU-T E.123 with its separators, of countries with numbers of a fixed length."""
    code, sizes = random.choice(
        [
            ("49", (3, 3, 5)), ("49", (2, 6)), ("44", (2, 4, 4)), ("44", (4, 6)), ("33", (1, 2, 2, 2, 2)), ("34", (3, 3, 3)),
            ("39", (3, 3, 4)), ("31", (1, 8)), ("48", (3, 3, 3)), ("46", (2, 3, 2, 2)), ("41", (2, 3, 2, 2)), ("55", (2, 5, 4)),
            ("91", (5, 5)), ("86", (3, 4, 4)), ("81", (2, 4, 4)), ("82", (2, 4, 4)), ("61", (1, 4, 4)), ("27", (2, 3, 4)),
            ("972", (2, 3, 4)), ("380", (2, 3, 2, 2)), ("353", (2, 3, 4)), ("1", (3, 3, 4)),
        ]
    )  # fmt: skip
    groups = [digits(random, size, "23456789") for size in sizes]
    separator = random.choice([" ", "-", "", "."])
    if code == "1":
        return f"+1{random.choice([f' ({groups[0]}) ', f'-{groups[0]}-', groups[0]])}{groups[1]}{random.choice(['-', ''])}{groups[2]}"
    prefix = random.choice(["+", "+", "+", "00"])
    if random.random() < 0.1 and separator == " ":
        return f"{prefix}{code} (0) {' '.join(groups)}"
    return prefix + separator.join([code, *groups])


def phone_national(random: Random) -> str:
    """As written inside a country, with its separators."""
    n = lambda count: digits(random, count, "23456789")
    return random.choice(
        [
            f"({n(3)}) {n(3)}-{digits(random, 4)}",
            f"{n(3)}-{n(3)}-{digits(random, 4)}",
            f"{random.choice('2345678')}{random.choice('0234567')}{random.choice('0234567')}.{n(3)}.{digits(random, 4)}",
            f"1-800-{n(3)}-{digits(random, 4)}",
            f"020 {n(4)} {digits(random, 4)}",
            f"07{digits(random, 3)} {digits(random, 6)}",
            f"0{n(1)} {' '.join(digits(random, 2) for _ in range(4))}",
            f"0{n(1)}.{'.'.join(digits(random, 2) for _ in range(4))}",
            f"0{n(2)}/{n(7)}",
            f"01{n(2)} {n(8)}",
            f"030-{n(7)}",
            f"06-{n(8)}",
            f"03-{n(4)}-{digits(random, 4)}",
            f"090-{n(4)}-{digits(random, 4)}",
            f"04{digits(random, 2)} {n(3)} {digits(random, 3)}",
            f"044 {n(3)} {digits(random, 2)} {digits(random, 2)}",
            f"(11) 9{n(4)}-{digits(random, 4)}",
            f"13{n(1)}-{n(4)}-{digits(random, 4)}",
        ]
    )


def phone_bare(random: Random) -> str:
    """Without what shows that it is one: only a word beside it tells."""
    n = lambda count: digits(random, count, "23456789")
    return random.choice(
        [n(10), f"0{n(9)}", f"1{n(10)}", f"{n(3)} {n(3)} {n(3)}", f"{n(5)} {n(5)}", f"{n(3)}-{n(4)}", f"6{n(8)}"]
    )


MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def birth_date(random: Random) -> str:
    year, month, day = random.randint(1930, 2015), random.randint(1, 12), random.randint(1, 28)
    return random.choice(
        [
            f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}", f"{month:02d}/{day:02d}/{year}", f"{day}/{month}/{year}",
            f"{day} {MONTHS[month - 1]} {year}", f"{MONTHS[month - 1]} {day}, {year}", f"{MONTHS[month - 1][:3]} {day} {year}",
            f"{year}/{month:02d}/{day:02d}", f"{day:02d}-{month:02d}-{year}", f"{day:02d}.{month:02d}.{year % 100:02d}",
        ]
    )  # fmt: skip


def passport(random: Random) -> str:
    return random.choice(
        [
            digits(random, 9, "3456789"),  # United States, United Kingdom
            f"C{letters(random, 1, 'CFGHJKLMNPRTVWXYZ')}{digits(random, 7)}",  # Germany has a letter and a mix
            f"{letters(random, 2)}{digits(random, 7)}",  # Italy, Poland, Canada's are alike
            f"{digits(random, 2)}{letters(random, 2)}{digits(random, 5)}"
            if False
            else f"E{digits(random, 8)}",  # China
            f"{letters(random, 1)}{digits(random, 7)}",  # India
            f"{letters(random, 3)}{digits(random, 6)}",  # Spain
        ]
    )


def licence(random: Random) -> str:
    return random.choice(
        [
            f"{letters(random, 1)}{digits(random, 7)}",  # California
            digits(random, 9),  # New York
            f"{letters(random, 1)}{digits(random, 3)}-{digits(random, 3)}-{digits(random, 2)}-{digits(random, 3)}-{digits(random, 1)}",  # Florida
            f"{letters(random, 5)}{digits(random, 6)}{letters(random, 2)}{digits(random, 1)}{letters(random, 2)}",  # Great Britain
            f"{letters(random, 2)}{digits(random, 7)}{letters(random, 1)}",  # Italy
            f"{letters(random, 1)}{digits(random, 8)}",
        ]
    )


def ipv4(random: Random) -> str:
    first = random.choice([8, 23, 31, 45, 52, 64, 77, 81, 93, 104, 121, 133, 151, 185, 203, 217])
    return ".".join(map(str, (first, random.randint(0, 255), random.randint(0, 255), random.randint(1, 254))))


def ipv6(random: Random) -> str:
    group = lambda: f"{random.randint(1, 65535):x}"
    start = random.choice(["2001:db8", "2a00:1450", "2606:4700", "2409:4050"])
    full = ":".join(f"{random.randint(0, 65535):04x}" for _ in range(6))
    return random.choice(
        [f"{start}::{group()}", f"{start}:{group()}:{group()}::{group()}:{group()}", f"{start}:{full}"]
    )


def private_ip(random: Random) -> str:
    low = random.randint(1, 254)
    return random.choice(
        [f"10.{random.randint(0, 255)}.3.{low}", f"192.168.{random.randint(0, 255)}.{low}", f"172.20.0.{low}"]
    )


def mac(random: Random) -> str:
    pairs = [f"{byte:02x}" for byte in random.randbytes(6)]
    text = random.choice([":", "-"]).join(["3c", *pairs[1:5], "fe"])
    return random.choice([text, text.upper()])


def basic(random: Random) -> str:
    return base64.b64encode(
        f"{random.choice(['jane', 'svc', 'admin'])}:{digits(random, 3)}pw{letters(random, 4)}".encode()
    ).decode()
