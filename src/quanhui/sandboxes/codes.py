"""Codes as an issuer makes them: prefix, body, check characters over the body.

Written apart from the platform's own reading of codes, as an issuer's programmers would: Luhn after
ISO/IEC 7812-1 annex B, the other two after ISO/IEC 7064:2003.
"""

import random
from string import ascii_uppercase, digits
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ALPHANUMERIC = digits + ascii_uppercase


class CodeFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a product's codes, as a seed line carries it."""

    alphabet: Annotated[str, Meta(min_length=1)]
    body_length: Annotated[int, Meta(ge=1, le=64)]
    check: Literal["none", "luhn", "iso7064_mod37_36", "iso7064_mod97_10"]


def new_code(prefix: str, code_format: CodeFormat, dice: random.Random) -> str:
    """A random code of this format. Bodies whose check characters the alphabet lacks are thrown away."""
    while True:
        body = "".join(dice.choices(code_format.alphabet, k=code_format.body_length))
        check = check_of(body, code_format.check)
        if set(check) <= set(code_format.alphabet):
            return prefix + body + check


def check_of(body: str, algorithm: str) -> str:
    """The check characters that follow a body."""
    match algorithm:
        case "luhn":
            # Digits in even places from the right of the finished code count double, 10 and over less 9.
            reversed_body = [int(digit) for digit in reversed(body)]
            doubled = sum(digit * 2 - 9 * (digit > 4) for digit in reversed_body[::2])  # noqa: PLR2004
            return str((10 - (doubled + sum(reversed_body[1::2])) % 10) % 10)
        case "iso7064_mod37_36":
            product = 36
            for character in body:
                total = (product + ALPHANUMERIC.index(character)) % 36
                product = (total or 36) * 2 % 37
            return ALPHANUMERIC[(37 - product) % 36]
        case "iso7064_mod97_10":
            return f"{98 - int(body + '00') % 97:02d}"
        case _:
            return ""
