import itertools
import sys
from random import Random

import pytest
from hypothesis import assume, given, strategies as st

from quanhui.catalogue import (
    OWN_ALPHABET,
    Candidate,
    CheckAlgorithm,
    CodeFormat,
    Recogniser,
    check_ok,
    make_code,
    normalise,
)
from quanhui.catalogue.codes import check_characters, strip

DIGITS = "0123456789"
OWN = CodeFormat(prefix="RJ", alphabet=OWN_ALPHABET, body_length=14, check=CheckAlgorithm.ISO7064_MOD37_36)
CARD = CodeFormat(prefix="62", alphabet=DIGITS, body_length=13, check=CheckAlgorithm.LUHN)
LONG = CodeFormat(prefix="", alphabet=DIGITS, body_length=16, check=CheckAlgorithm.ISO7064_MOD97_10)
MIXED = CodeFormat(prefix="x", alphabet="abcABC123", body_length=8, check=CheckAlgorithm.NONE)
FORMATS = [OWN, CARD, LONG, MIXED]

DECORATION = st.lists(st.sampled_from([" ", "-", "—", "\u3000", "\u200b", "\ufeff", "−", "\t"]), max_size=3)


@pytest.mark.parametrize(
    ("check", "whole"),
    [
        (CheckAlgorithm.LUHN, "79927398713"),  # ISO/IEC 7812-1, the usual example
        (CheckAlgorithm.LUHN, "4539148803436467"),
        (CheckAlgorithm.ISO7064_MOD97_10, "79444"),  # the standard's own example, 0794 → 44
        (CheckAlgorithm.ISO7064_MOD37_36, "A12425GABC1234002M"),  # the GRid of IFPI
    ],
)
def test_check_characters_agree_with_published_answers(check, whole):
    assert check_characters(whole[: -check.length], check) == whole[-check.length :]


@given(st.sampled_from(FORMATS), st.integers(), st.data())
def test_a_code_is_read_however_it_is_decorated(code_format, seed, data):
    code = make_code(code_format, Random(seed))
    wide = data.draw(st.booleans())
    letters = [chr(ord(c) + 0xFEE0) if wide else c for c in code]
    text = "".join(letter + "".join(data.draw(DECORATION)) for letter in letters)
    if code_format.ignores_case and data.draw(st.booleans()):
        text = text.lower()
    assert normalise(text, code_format) == code
    assert check_ok(code, code_format)


@given(st.sampled_from([OWN, CARD, LONG]), st.integers(), st.data())
def test_one_wrong_character_is_always_noticed(code_format, seed, data):
    code = make_code(code_format, Random(seed))
    place = data.draw(st.integers(len(code_format.prefix), len(code) - 1))
    other = data.draw(st.sampled_from(code_format.alphabet))
    assume(other != code[place])
    assert not check_ok(code[:place] + other + code[place + 1 :], code_format)


@given(st.integers(), st.data())
def test_mod97_10_notices_every_swap_of_neighbours(seed, data):
    code = make_code(LONG, Random(seed))
    place = data.draw(st.integers(0, len(code) - 2))
    assume(code[place] != code[place + 1])
    assert not check_ok(_swap(code, place), LONG)


@given(st.integers(), st.data())
def test_luhn_notices_every_swap_of_neighbours_but_09_and_90(seed, data):
    code = make_code(CARD, Random(seed))
    place = data.draw(st.integers(len(CARD.prefix), len(code) - 2))
    pair = {code[place], code[place + 1]}
    assume(len(pair) == 2)
    assert check_ok(_swap(code, place), CARD) == (pair == {"0", "9"})


def test_mod37_36_misses_one_swap_of_neighbours_in_six_hundred():
    pairs = list(itertools.permutations(OWN_ALPHABET, 2))
    missed = total = 0
    for head in OWN_ALPHABET:
        for one, two in pairs:
            total += 1
            missed += _mod37(head + one + two) == _mod37(head + two + one)
    assert missed / total < 1 / 600


def _mod37(body: str) -> str:
    return check_characters(body, CheckAlgorithm.ISO7064_MOD37_36)


def _swap(code: str, place: int) -> str:
    return code[:place] + code[place + 1] + code[place] + code[place + 2 :]


def test_look_alikes_are_read_only_where_the_alphabet_lacks_the_character():
    digits = CodeFormat(prefix="", alphabet=DIGITS, body_length=6, check=CheckAlgorithm.NONE)
    assert normalise("OIlZSB", digits) == "011258"
    everything = CodeFormat(
        prefix="", alphabet=DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ", body_length=6, check=CheckAlgorithm.NONE
    )
    assert normalise("OIlZSB", everything) == "OILZSB"
    letters = CodeFormat(
        prefix="", alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", body_length=2, check=CheckAlgorithm.NONE
    )
    assert normalise("0A", letters) == "OA"
    assert normalise("1A", letters) is None, "1 may be I or L: nobody guesses"
    assert normalise("RJ" + "O" * 15, OWN) is None, "our own alphabet has neither 0 nor O"


@pytest.mark.parametrize(
    "text", ["", " ", "券码", "RJ", "ı" * 17, "A" * 1000, "RJ2345678９😀", "RJ" + "!" * 15]
)
def test_what_is_no_code_is_read_as_none(text):
    assert all(normalise(text, code_format) is None for code_format in FORMATS)
    assert Recogniser([("vpr_1", f) for f in FORMATS]).candidates(text) == []


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
    bare = strip(text)
    assert bare is None or (bare.isascii() and bare.isalnum())
    assert all(isinstance(c, Candidate) for c in Recogniser([("vpr_1", OWN)]).candidates(text))


def test_made_codes_stay_within_the_alphabet_and_differ():
    codes = {make_code(OWN, Random(seed)) for seed in range(500)}
    assert len(codes) == 500
    assert all(set(code[2:]) <= set(OWN_ALPHABET) for code in codes)
    assert not set("01OILU") & set(OWN_ALPHABET)


def test_the_recogniser_names_every_product_of_the_format_and_no_other():
    products = [("vpr_a", OWN), ("vpr_b", OWN), ("vpr_c", CARD), ("vpr_d", LONG), ("vpr_e", MIXED)]
    recogniser = Recogniser(products)
    own = make_code(OWN, Random(1))
    found = recogniser.candidates(own.lower())
    assert [(c.product_id, c.code) for c in found] == [("vpr_a", own), ("vpr_b", own)]
    card = make_code(CARD, Random(1))
    assert [c.product_id for c in recogniser.candidates(" ".join(card))] == ["vpr_c"]
    mixed = make_code(MIXED, Random(3))
    assert [c.code for c in recogniser.candidates(mixed)] == [mixed]
    assert recogniser.candidates(_with_wrong_end(card)) == []


def test_the_longest_prefix_comes_first():
    short = CodeFormat(prefix="9", alphabet=DIGITS, body_length=9, check=CheckAlgorithm.NONE)
    long = CodeFormat(prefix="99", alphabet=DIGITS, body_length=8, check=CheckAlgorithm.NONE)
    found = Recogniser([("vpr_short", short), ("vpr_long", long)]).candidates("9912345678")
    assert [c.product_id for c in found] == ["vpr_long", "vpr_short"]


def test_recognising_costs_the_same_however_many_products_there_are():
    assert _calls_to_recognise(among=3000) == _calls_to_recognise(among=3)


def _calls_to_recognise(*, among: int) -> int:
    formats = [
        CodeFormat(prefix=f"P{n:04}", alphabet=DIGITS, body_length=12, check=CheckAlgorithm.LUHN)
        for n in range(among)
    ]
    recogniser = Recogniser([(f"vpr_{n}", code_format) for n, code_format in enumerate(formats)])
    code = make_code(formats[1], Random(1))
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    found = recogniser.candidates(code)
    sys.setprofile(None)
    assert [candidate.product_id for candidate in found] == ["vpr_1"]
    return calls


def test_a_candidate_never_shows_its_code():
    code = make_code(OWN, Random(5))
    (candidate,) = Recogniser([("vpr_a", OWN)]).candidates(code)
    assert code not in repr(candidate)
    assert code not in str(candidate)
    assert code not in f"{candidate!s} {candidate!r} {candidate.__rich_repr__()}"


def _with_wrong_end(code: str) -> str:
    return code[:-1] + str((int(code[-1]) + 1) % 10)


@pytest.mark.parametrize(
    "parts",
    [
        {"alphabet": ""},
        {"alphabet": "AAB"},
        {"alphabet": "AB券"},
        {"alphabet": "ABC", "check": CheckAlgorithm.LUHN},
        {"alphabet": "abc", "check": CheckAlgorithm.ISO7064_MOD37_36},
        {"prefix": "rj"},
        {"prefix": "R-"},
        {"body_length": 0},
        {"body_length": 65},
    ],
)
def test_a_format_whose_parts_do_not_fit_is_refused(parts):
    whole = {"prefix": "RJ", "alphabet": "23456789", "body_length": 8, "check": CheckAlgorithm.NONE}
    with pytest.raises(ValueError, match=r"alphabet|prefix|body"):
        CodeFormat(**{**whole, **parts})
