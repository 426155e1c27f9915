"""Check digits of identity numbers, company codes and bank cards: they find slips of the pen, not lies.

A number that passes is well formed; that it was ever issued, or to whom, only its issuer can say.
"""

import re
from datetime import date

_ID_NUMBER = re.compile(r"[1-9][0-9]{16}[0-9X]")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"

_CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_CODE = re.compile(f"[{_CREDIT_ALPHABET}]{{2}}[0-9]{{6}}[{_CREDIT_ALPHABET}]{{10}}")

_CARD_NUMBER = re.compile(r"[0-9]{12,19}")


def is_id_number(text: str) -> bool:
    """Whether a text is an identity number 公民身份号码 (GB 11643-1999): form, birthday, check digit."""
    if not _ID_NUMBER.fullmatch(text) or text[17] != id_number_check(text[:17]):
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return True


def id_number_check(first_17: str) -> str:
    """The 18th character of an identity number: ISO 7064 MOD 11-2 over the first 17 digits."""
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, first_17, strict=True))
    return _ID_CHECKS[total % 11]


def is_credit_code(text: str) -> bool:
    """Whether a text is a social credit code 统一社会信用代码 (GB 32100-2015): form, check digit."""
    return bool(_CREDIT_CODE.fullmatch(text)) and text[17] == credit_code_check(text[:17])


def credit_code_check(first_17: str) -> str:
    """The 18th character of a credit code: weights 3^i mod 31 over the alphabet without I, O, S, V, Z."""
    assert len(first_17) == 17  # noqa: PLR2004 - the length the standard gives
    total = sum(pow(3, i, 31) * _CREDIT_ALPHABET.index(symbol) for i, symbol in enumerate(first_17))
    return _CREDIT_ALPHABET[-total % 31]


def is_card_number(text: str) -> bool:
    """Whether a text is a bank card number: 12 to 19 digits that pass Luhn (ISO/IEC 7812-1 annex B)."""
    return bool(_CARD_NUMBER.fullmatch(text)) and text[-1] == luhn_check(text[:-1])


def luhn_check(digits: str) -> str:
    """The digit that completes a number: from the right, every other digit doubled and its digits added."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 - adding the digits of 10…18
    return str(-total % 10)
