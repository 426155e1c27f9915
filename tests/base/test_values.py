"""Money, instants and ids: small things that everything stands on."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from quanhui.base import clock, money
from quanhui.base.ids import is_id, new_id

AMOUNTS = st.integers(0, 10**12)
RATES = st.integers(0, money.BPS)


@given(amount_fen=AMOUNTS, weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_a_split_adds_up_and_no_part_is_a_whole_fen_off(amount_fen, weights):
    if not sum(weights):
        with pytest.raises(ValueError, match="positive"):
            money.split_by_largest_remainder(amount_fen, weights)
        return
    parts = money.split_by_largest_remainder(amount_fen, weights)
    assert sum(parts) == amount_fen
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - amount_fen * weight) < sum(weights)
        assert weight or part == 0


def test_fen_left_over_go_to_the_largest_remainders_and_ties_to_the_earlier_part():
    assert money.split_by_largest_remainder(100, [1, 1, 1]) == [34, 33, 33]
    assert money.split_by_largest_remainder(10, [15, 16, 69]) == [1, 2, 7]


@pytest.mark.parametrize("weights", [[], [0, 0], [2, -1]])
def test_a_split_needs_weights(weights):
    with pytest.raises(ValueError, match=r"weights|empty"):
        money.split_by_largest_remainder(1, weights)


@given(amount_fen=AMOUNTS, rate_bps=RATES)
def test_a_share_is_rounded_as_its_name_says(amount_fen, rate_bps):
    exact = amount_fen * rate_bps
    floor, half_up = money.share_floor(amount_fen, rate_bps), money.share_half_up(amount_fen, rate_bps)
    assert 0 <= exact - floor * money.BPS < money.BPS
    assert -money.BPS // 2 <= exact - half_up * money.BPS < money.BPS // 2 + money.BPS % 2
    assert floor <= half_up <= amount_fen


def test_half_a_fen_is_rounded_up():
    assert [money.share_half_up(fen, 1000) for fen in (4, 5, 14, 15)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("fen", "text"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (123_456, "1,234.56"), (-100_000_000, "-1,000,000.00")],
)
def test_yuan_are_written_as_people_read_them(fen, text):
    assert money.yuan(fen) == text


def test_a_day_ends_at_midnight_in_shanghai_and_not_before():
    end = clock.end_of_local_day(date(2026, 11, 22))
    assert end == datetime(2026, 11, 22, 16, tzinfo=UTC)
    assert clock.local_day(end - timedelta(microseconds=1)) == date(2026, 11, 22)
    assert clock.local_day(end) == date(2026, 11, 23)


@pytest.mark.parametrize(
    ("days", "hours", "left"), [(0, 0, 0), (1, 0, 1), (30, 0, 30), (0, 12, -1), (30, 12, 29)]
)
def test_days_left_are_local_days_after_today(now, days, hours, left):
    """`now` is midday: twelve hours later the day is over."""
    end = clock.end_of_local_day(clock.local_day(now) + timedelta(days=days))
    assert clock.whole_days_until(end, now + timedelta(hours=hours)) == left


@given(days=st.integers(-1000, 1000), minutes=st.integers(0, 24 * 60 - 1))
def test_a_voucher_has_days_left_exactly_while_it_is_good(days, minutes):
    at = datetime(2026, 11, 21, 16, tzinfo=UTC) + timedelta(minutes=minutes)
    end = clock.end_of_local_day(date(2026, 11, 22) + timedelta(days=days))
    assert (clock.whole_days_until(end, at) >= 0) == (at < end)


def test_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="naive"):
        clock.local_day(datetime(2026, 11, 22))  # noqa: DTZ001 - what is refused
    assert clock.now().tzinfo is UTC


def test_ids_say_what_they_are_and_sort_by_their_making():
    made = [new_id("ord") for _ in range(100)]
    assert made == sorted(made)
    assert len(set(made)) == 100
    assert all(is_id(each, "ord") and not is_id(each, "quo") for each in made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ord_",
        "ord",
        "ord_01h455vb4pex5vsknk084sn02",
        "ORD_01H455VB4PEX5VSKNK084SN02Q",
        "ord_" + "z" * 26,
        "ord_０1h455vb4pex5vsknk084sn02q",
    ],
)
def test_what_is_no_id_is_told_from_one(text):
    assert not is_id(text, "ord")
    assert is_id("ord_01h455vb4pex5vsknk084sn02q", "ord")
