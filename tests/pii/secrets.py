"""Secrets as their issuers make them, from published descriptions: prefix, alphabet, length. Nothing here is in use anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from random import Random

ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
URLSAFE = ALNUM + "-_"
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def text(random: Random, alphabet: str, count: int) -> str:
    """As drawn by a generator of keys: with both letters and digits, and nothing odd at its ends."""
    while True:
        found = "".join(random.choice(alphabet) for _ in range(count))
        mixed = any(char.isdigit() for char in found) and any(char.isalpha() for char in found)
        if mixed and found[0].isalnum() and found[-1].isalnum():
            return found


def hexadecimal(random: Random, count: int) -> str:
    return text(random, "0123456789abcdef", count)


def openai_key(random: Random) -> str:
    return random.choice(
        [
            f"sk-proj-{text(random, URLSAFE, 74)}T3BlbkFJ{text(random, URLSAFE, 74)}",
            f"sk-{text(random, ALNUM, 20)}T3BlbkFJ{text(random, ALNUM, 20)}",
            f"sk-svcacct-{text(random, URLSAFE, 58)}T3BlbkFJ{text(random, URLSAFE, 58)}",
            f"sk-or-v1-{hexadecimal(random, 64)}",
            f"sk-{text(random, URLSAFE, 22)}",
            f"sk-{hexadecimal(random, 32)}",
        ]
    )


def anthropic_key(random: Random) -> str:
    return f"sk-ant-{random.choice(['api03', 'admin01', 'oat01'])}-{text(random, URLSAFE, 93)}AA"


def aws_access_key(random: Random) -> str:
    return random.choice(["AKIA", "ASIA"]) + text(random, BASE32, 16)


def aws_secret_key(random: Random) -> str:
    return text(random, ALNUM + "/+", 40)


def google_key(random: Random) -> str:
    return random.choice(
        [
            f"AIza{text(random, URLSAFE, 35)}",
            f"ya29.{text(random, URLSAFE, 180)}",
            f"GOCSPX-{text(random, URLSAFE, 28)}",
            f"1//0{text(random, URLSAFE, 100)}",
        ]
    )


def azure_storage(random: Random) -> str:
    return base64.b64encode(random.randbytes(64)).decode()


def azure_bus(random: Random) -> str:
    return base64.b64encode(random.randbytes(32)).decode()


def github_token(random: Random) -> str:
    return random.choice(
        [
            f"gh{random.choice('pousr')}_{text(random, ALNUM, 36)}",
            f"github_pat_{text(random, ALNUM, 22)}_{text(random, ALNUM, 59)}",
        ]
    )


def gitlab_token(random: Random) -> str:
    return f"{random.choice(['glpat', 'gldt', 'glrt', 'glptt'])}-{text(random, URLSAFE, 20)}"


def slack_token(random: Random) -> str:
    number = random.randint(10**11, 10**12)
    return f"xox{random.choice('bp')}-{number}-{random.randint(10**12, 10**13)}-{text(random, ALNUM, 24)}"


def slack_webhook(random: Random) -> str:
    return f"services/T{text(random, BASE32, 10)}/B{text(random, BASE32, 10)}/{text(random, ALNUM, 24)}"


def stripe_key(random: Random) -> str:
    return random.choice(
        [
            f"{random.choice(['sk', 'rk'])}_{random.choice(['live', 'test'])}_{text(random, ALNUM, 24)}",
            f"whsec_{text(random, ALNUM, 32)}",
        ]
    )


def huggingface_token(random: Random) -> str:
    return "hf_" + "".join(random.choice(ALNUM[:52]) for _ in range(34))


def model_provider_key(random: Random) -> str:
    return random.choice(
        [
            f"gsk_{text(random, ALNUM, 52)}",
            f"xai-{text(random, ALNUM, 80)}",
            f"pplx-{text(random, ALNUM, 48)}",
            f"r8_{text(random, ALNUM, 37)}",
            f"nvapi-{text(random, URLSAFE, 64)}",
            f"dapi{hexadecimal(random, 32)}",
            f"lsv2_pt_{hexadecimal(random, 32)}_{hexadecimal(random, 10)}",
        ]
    )


def sendgrid_key(random: Random) -> str:
    return f"SG.{text(random, URLSAFE, 22)}.{text(random, URLSAFE, 43)}"


def twilio_key(random: Random) -> str:
    return f"SK{hexadecimal(random, 32)}"


def package_token(random: Random) -> str:
    return random.choice([f"npm_{text(random, ALNUM, 36)}", f"pypi-AgEIcHlwaS5vcmc{text(random, URLSAFE, 150)}"])


def vendor_token(random: Random) -> str:
    return random.choice(
        [
            f"dop_v1_{hexadecimal(random, 64)}",
            f"shpat_{hexadecimal(random, 32)}",
            f"hvs.{text(random, URLSAFE, 90)}",
            f"glsa_{text(random, ALNUM, 32)}_{hexadecimal(random, 8)}",
            f"NRAK-{text(random, BASE32, 27)}",
            f"lin_api_{text(random, ALNUM, 40)}",
            f"key-{hexadecimal(random, 32)}",
            f"{random.randint(10**8, 10**10 - 1)}:AA{text(random, URLSAFE, 33)}",
            f"sq0atp-{text(random, URLSAFE, 22)}",
        ]
    )


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def jwt(random: Random) -> str:
    header = {"alg": random.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"}
    claims = {"sub": str(random.randint(1, 10**9)), "iat": 1_722_945_600 + random.randint(0, 10**6)}
    signature = hashlib.sha256(random.randbytes(8)).digest()
    return f"{_part(header)}.{_part(claims)}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def private_key(random: Random) -> str:
    kind = random.choice(["RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED "])
    body = base64.b64encode(random.randbytes(600)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def password(random: Random) -> str:
    word = random.choice(["Sommer", "dragon", "Liverpool", "correct", "Tr0ub4dor", "azerty", "welcome", "Passw0rd"])
    return word + random.choice(["2024!", "123", "&3", "#1", "_77", "$$9", "@home1"])


def userinfo(random: Random) -> str:
    return f"{random.choice(['app', 'root', 'deploy', 'svc_reader', ''])}:{text(random, ALNUM, random.randint(8, 20))}"
