"""Amounts and keys as other parties write them."""

import pytest
from hypothesis import given, strategies as st

from quanhui.base.accounts import Terms
from quanhui.base.money import fen_of, yuan_text
from quanhui.base.rsa import load_private_key, load_public_key

MOST = 10**18 - 1


@given(st.integers(0, MOST))
def test_an_amount_written_as_yuan_is_read_back_to_the_fen(amount_fen):
    assert fen_of(yuan_text(amount_fen)) == amount_fen


@given(st.text(max_size=24))
def test_whatever_is_read_as_an_amount_is_plain_yuan(text):
    try:
        amount_fen = fen_of(text)
    except ValueError:
        return
    assert text.isascii()
    assert fen_of(yuan_text(amount_fen)) == amount_fen


@pytest.mark.parametrize(
    ("text", "amount_fen"),
    [("0", 0), ("0.1", 10), ("0.01", 1), ("12.30", 1230), ("9999999999999999.99", MOST)],
)
def test_the_short_forms_of_yuan_are_read(text, amount_fen):
    assert fen_of(text) == amount_fen


@pytest.mark.parametrize(
    "text",
    [
        "", ".", ".5", "5.", "-1", "+1", "-0.00", "1.001", "0.001", "1e3", "1E3", "NaN", "nan", "Infinity",
        "-inf", "1,000.00", "01", "00.10", " 1", "1 ", "1\n", "0x10", "1_000", "１", "٣", "12345678901234567",
        "99999999999999999.99",
    ],
)  # fmt: skip
def test_anything_else_is_no_amount(text):
    with pytest.raises(ValueError, match="amount"):
        fen_of(text)


def test_no_protocol_writes_less_than_nothing():
    with pytest.raises(ValueError, match="negative"):
        yuan_text(-1)


@pytest.mark.parametrize(
    "pem", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_a_key_that_cannot_be_used_is_refused_without_being_repeated(pem):
    for load in (load_private_key, load_public_key):
        with pytest.raises(ValueError, match="RSA") as caught:
            load(pem)
        assert "AAAA" not in str(caught.value)


def test_terms_whose_least_is_above_their_most_are_refused():
    with pytest.raises(ValueError, match="least"):
        Terms(least_fen=2, most_fen=1)
