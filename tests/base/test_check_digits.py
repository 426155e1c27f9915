import pytest

from quanhui.base.check_digits import (
    credit_code_check,
    id_number_check,
    is_card_number,
    is_credit_code,
    is_id_number,
    luhn_check,
)


@pytest.mark.parametrize("number", ["11010519491231002X", "440524188001010014"])
def test_the_examples_of_gb_11643_pass(number):
    assert is_id_number(number)


@pytest.mark.parametrize(
    "number",
    [
        "11010519491231002x",  # the letter is a capital
        "110105194912310021",  # another check digit
        "110105490231002",  # fifteen digits, the old form
        "１1010519491231002X",  # a full-width digit
        "",
    ],
)
def test_what_is_not_an_identity_number_is_refused(number):
    assert not is_id_number(number)


def test_an_identity_number_needs_a_day_that_exists():
    first = "11010519490230002"
    assert not is_id_number(first + id_number_check(first))


@pytest.mark.parametrize(
    "code", ["91350100M000100Y43", "9144030071526726XG", "91330100799655058B", "914403001922038216"]
)
def test_known_credit_codes_pass(code):
    assert is_credit_code(code)


@pytest.mark.parametrize("code", ["91350100M000100Y44", "91350100I000100Y43", "91350100m000100y43", "9135"])
def test_what_is_not_a_credit_code_is_refused(code):
    assert not is_credit_code(code)


@pytest.mark.parametrize("number", ["4111111111111111", "6216261000000000018", "378282246310005"])
def test_known_card_numbers_pass(number):
    assert is_card_number(number)


@pytest.mark.parametrize("number", ["4111111111111112", "41111111111", "4111 1111 1111 1111", "٤" * 16])
def test_what_is_not_a_card_number_is_refused(number):
    assert not is_card_number(number)


def test_the_check_digit_completes_a_number():
    assert id_number_check("11010519491231002") == "X"
    assert credit_code_check("91350100M000100Y4") == "3"
    assert luhn_check("411111111111111") == "1"


@pytest.mark.parametrize(
    ("is_good", "good"),
    [
        (is_id_number, "440524188001010014"),
        (is_credit_code, "91350100M000100Y43"),
        (is_card_number, "6216261000000000018"),
    ],
)
def test_every_single_wrong_digit_is_found(is_good, good):
    for place in range(len(good)):
        for digit in "0123456789":
            if digit != good[place]:
                assert not is_good(good[:place] + digit + good[place + 1 :])
