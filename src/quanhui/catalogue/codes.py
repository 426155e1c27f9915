"""Voucher codes as people type, scan and photograph them: read, checked, made. Pure.

A code is a fixed prefix, a body, and check characters computed over the body. Everything about it is data
in a `CodeFormat`. Sources: the Luhn formula is ISO/IEC 7812-1 annex B; the other two are systems of
ISO/IEC 7064:2003 (MOD 37,36 hybrid, clause 10; MOD 97-10 pure, clause 6).
"""

import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from random import Random
from string import ascii_letters, ascii_uppercase, digits
from typing import Any, Final

import msgspec

OWN_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""For codes that we issue: without 0 O 1 I L U, which people mistake for each other or for V."""

LOOK_ALIKES: Final = ("0O", "1IL", "2Z", "5S", "8B")
LONGEST_TEXT: Final = 128
SECRET_FIELDS: Final = frozenset({"code", "new_code"})

_ALPHANUMERIC: Final = digits + ascii_uppercase
_VALUE_OF: Final = {character: value for value, character in enumerate(_ALPHANUMERIC)}
_MINUS_SIGN: Final = "\N{MINUS SIGN}"
_PASSED_OVER: Final = frozenset({"Cc", "Cf", "Pd", "Zl", "Zp", "Zs"})


class CheckAlgorithm(StrEnum):
    """How check characters are computed, and with that which slips of the hand are noticed."""

    NONE = "none"
    LUHN = "luhn"
    ISO7064_MOD37_36 = "iso7064_mod37_36"
    ISO7064_MOD97_10 = "iso7064_mod97_10"

    @property
    def length(self) -> int:
        """How many check characters follow the body."""
        return {CheckAlgorithm.NONE: 0, CheckAlgorithm.ISO7064_MOD97_10: 2}.get(self, 1)


class WithoutCodes(msgspec.Struct, frozen=True, kw_only=True):
    """A base for values that carry bearer secrets: prints every field but the codes."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = (name for name in self.__struct_fields__ if name not in SECRET_FIELDS)
        return [(name, getattr(self, name)) for name in shown]


class CodeFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a product's codes. Raises `ValueError` when the parts do not fit together.

    Where the alphabet has no small letters, case does not matter. `iso7064_mod37_36` works on digits and
    capitals, `luhn` and `iso7064_mod97_10` on digits alone.
    """

    prefix: str
    alphabet: str
    body_length: int
    check: CheckAlgorithm

    def __post_init__(self) -> None:
        letters = set(self.alphabet)
        if not letters or len(letters) != len(self.alphabet) or not letters <= set(ascii_letters + digits):
            raise ValueError("an alphabet is one or more different ASCII letters and digits")
        if self.prefix and not (self.prefix.isascii() and self.prefix.isalnum()):
            raise ValueError("a prefix is ASCII letters and digits")
        if self.ignores_case and self.prefix != self.prefix.upper():
            raise ValueError("a prefix before an alphabet without small letters is in capitals")
        if not 1 <= self.body_length <= LONGEST_TEXT // 2:
            raise ValueError("a body has between 1 and 64 characters")
        if not letters <= set(_checkable(self.check)):
            raise ValueError(f"{self.check} does not work on this alphabet")

    @property
    def ignores_case(self) -> bool:
        """Whether small letters may stand for capitals."""
        return self.alphabet == self.alphabet.upper()

    @property
    def length(self) -> int:
        """Characters in a whole code."""
        return len(self.prefix) + self.body_length + self.check.length


class Candidate(WithoutCodes, frozen=True, kw_only=True):
    """A product whose codes look like the text, and the text as a code of that product."""

    product_id: str
    code: str


class Recogniser:
    """Finds the products that a text may be a code of, by prefix and length: never by trying them all."""

    def __init__(self, formats: Iterable[tuple[str, CodeFormat]]) -> None:
        by_format: dict[CodeFormat, list[str]] = {}
        for product_id, code_format in formats:
            by_format.setdefault(code_format, []).append(product_id)
        self._by_shape: dict[tuple[str, int], list[tuple[CodeFormat, list[str]]]] = {}
        for code_format, product_ids in by_format.items():
            shape = (code_format.prefix, code_format.length)
            self._by_shape.setdefault(shape, []).append((code_format, product_ids))
        self._prefix_lengths = sorted({len(prefix) for prefix, _ in self._by_shape}, reverse=True)

    def candidates(self, text: str) -> list[Candidate]:
        """Products that fit, with check characters that hold; the longest prefix first."""
        bare = strip(text)
        if bare is None:
            return []
        return [
            Candidate(product_id=product_id, code=code)
            for code_format, product_ids in self._fitting(bare)
            if (code := _read(bare, code_format)) is not None and check_ok(code, code_format)
            for product_id in product_ids
        ]

    def _fitting(self, bare: str) -> Iterator[tuple[CodeFormat, list[str]]]:
        spellings = dict.fromkeys((bare, bare.upper()))
        for prefix_length in self._prefix_lengths:
            for prefix in dict.fromkeys(spelling[:prefix_length] for spelling in spellings):
                yield from self._by_shape.get((prefix, len(bare)), ())


def normalise(text: str, code_format: CodeFormat) -> str | None:
    """The code that a text spells in a format, or None. Check characters are not judged here.

    Full-width characters, spaces, dashes and invisible characters do not matter, nor does case where the
    format has none. A character that the alphabet lacks is read as the one it looks like (O as 0, I or L
    as 1 …) where the alphabet has exactly one such.
    """
    bare = strip(text)
    return None if bare is None else _read(bare, code_format)


def strip(text: str) -> str | None:
    """A text in half width without spaces, dashes and invisible characters; None if that is no code."""
    if len(text) > LONGEST_TEXT:
        return None
    if not (text.isascii() and text.isalnum()):
        folded = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in folded if c != _MINUS_SIGN and unicodedata.category(c) not in _PASSED_OVER)
    return text if text.isascii() and text.isalnum() else None


def check_ok(code: str, code_format: CodeFormat) -> bool:
    """Whether a normalised code ends in the check characters of its body. Always true without a check."""
    body_end = len(code) - code_format.check.length
    body = code[len(code_format.prefix) : body_end]
    return code[body_end:] == check_characters(body, code_format.check)


def make_code(code_format: CodeFormat, random: Random) -> str:
    """A random code. Pass `random.SystemRandom` for codes that are worth money.

    A body whose check characters fall outside the alphabet (such as 0 for our own) is thrown away.
    """
    letters, length = code_format.alphabet, code_format.body_length
    while True:
        body = "".join(random.choices(letters, k=length))
        check = check_characters(body, code_format.check)
        if all(character in letters for character in check):
            return code_format.prefix + body + check


def check_characters(body: str, check: CheckAlgorithm) -> str:
    """The check characters of a body."""
    match check:
        case CheckAlgorithm.NONE:
            return ""
        case CheckAlgorithm.LUHN:
            return _luhn(body)
        case CheckAlgorithm.ISO7064_MOD37_36:
            return _mod37_36(body)
        case CheckAlgorithm.ISO7064_MOD97_10:
            return f"{98 - int(body) * 100 % 97:02d}"


def _luhn(body: str) -> str:
    total = 0
    for position, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 - position % 2)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


def _mod37_36(body: str) -> str:
    """Notices every wrong character, and every swap of neighbours but 36 of 22,680 (state, pair) cases."""
    product = 36
    for character in body:
        product = ((product + _VALUE_OF[character]) % 36 or 36) * 2 % 37
    return _ALPHANUMERIC[(37 - product) % 36]


def _checkable(check: CheckAlgorithm) -> str:
    match check:
        case CheckAlgorithm.NONE:
            return ascii_letters + digits
        case CheckAlgorithm.ISO7064_MOD37_36:
            return _ALPHANUMERIC
        case _:
            return digits


def _read(bare: str, code_format: CodeFormat) -> str | None:
    if len(bare) != code_format.length:
        return None
    if code_format.ignores_case:
        bare = bare.upper()
    if not bare.startswith(code_format.prefix):
        return None
    code = code_format.prefix
    for character in bare[len(code) :]:
        letter = _read_character(character, code_format.alphabet)
        if letter is None:
            return None
        code += letter
    return code


def _read_character(character: str, alphabet: str) -> str | None:
    if character in alphabet:
        return character
    likely = [a for group in LOOK_ALIKES if character in group for a in group if a in alphabet]
    return likely[0] if len(likely) == 1 else None
