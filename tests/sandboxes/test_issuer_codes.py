"""The issuer's own arithmetic against published examples and against the platform's reading of codes."""

import random
from string import digits

import pytest

from quanhui import catalogue
from quanhui.catalogue.codes import CheckAlgorithm
from quanhui.sandboxes.codes import ALPHANUMERIC, CodeFormat, check_of, new_code

OWN_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


@pytest.mark.parametrize(
    ("algorithm", "body", "check"),
    [
        ("luhn", "7992739871", "3"),
        ("iso7064_mod37_36", "A12425GABC1234002", "M"),
        ("iso7064_mod97_10", "794", "44"),
        ("none", "794", ""),
    ],
)
def test_check_characters_are_those_of_the_published_examples(algorithm, body, check):
    assert check_of(body, algorithm) == check


@pytest.mark.parametrize(
    ("alphabet", "algorithm"),
    [
        (digits, "none"),
        (digits, "luhn"),
        (digits, "iso7064_mod97_10"),
        (ALPHANUMERIC, "iso7064_mod37_36"),
        (OWN_ALPHABET, "iso7064_mod37_36"),
    ],
)
def test_the_platform_accepts_every_code_the_issuer_makes_and_no_other_check_character(alphabet, algorithm):
    dice = random.Random(7)
    theirs = CodeFormat(alphabet, 12, algorithm)
    ours = catalogue.CodeFormat(
        prefix="KD", alphabet=alphabet, body_length=12, check=CheckAlgorithm(algorithm)
    )
    for _ in range(200):
        code = new_code("KD", theirs, dice)
        assert catalogue.normalise(code, ours) == code
        assert catalogue.check_ok(code, ours)
        if algorithm != "none":
            wrong = code[:-1] + next(letter for letter in alphabet if letter != code[-1])
            assert not catalogue.check_ok(wrong, ours)
