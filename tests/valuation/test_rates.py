"""What a voucher is worth, from a table by product and days left."""

import pytest
from hypothesis import given, strategies as st

from quanhui import valuation
from quanhui.base.db import Db
from quanhui.valuation import TOO_NEAR_EXPIRY, Rate, RateTable, Subject, appraise

TABLE = RateTable(
    version="table-1",
    rates={
        ("supermarket", ""): [
            Rate(min_days_left=90, value_bps=9800, spread_bps=150),
            Rate(min_days_left=7, value_bps=8800, spread_bps=250),
        ],
        ("supermarket", "vpr_own"): [Rate(min_days_left=30, value_bps=9900, spread_bps=50)],
    },
)


def worth(days_left: int = 365, *, balance_fen: int = 100_00, category="supermarket", product="vpr_any"):
    subject = Subject(category=category, product_id=product, balance_fen=balance_fen, days_left=days_left)
    (appraisal,) = appraise(TABLE, [subject])
    return appraisal


@pytest.mark.parametrize(("days_left", "value_fen"), [(90, 98_00), (89, 88_00), (7, 88_00), (6, 0), (-1, 0)])
def test_the_rate_is_that_of_the_days_left(days_left, value_fen):
    assert worth(days_left).value_fen == value_fen


def test_a_row_for_the_product_wins_over_its_category_and_stands_alone():
    assert worth(product="vpr_own").value_fen == 99_00
    assert worth(29, product="vpr_own").value_fen == 0


def test_nothing_is_offered_for_a_kind_the_table_does_not_know_and_the_reason_says_so():
    unknown, near = worth(category="poetry"), worth(3)
    assert (unknown.value_fen, unknown.reasons[0].code) == (0, "no_rate")
    assert (near.value_fen, near.reasons[0].code) == (0, TOO_NEAR_EXPIRY)


@given(balance_fen=st.integers(1, 10**9), days_left=st.integers(-10, 2000))
def test_a_value_lies_within_its_interval_and_the_balance_and_its_reasons_explain_it(balance_fen, days_left):
    found = worth(days_left, balance_fen=balance_fen)
    assert 0 <= found.low_fen <= found.value_fen <= found.high_fen <= balance_fen
    assert balance_fen + sum(reason.effect_fen for reason in found.reasons) == found.value_fen


@given(balance_fen=st.integers(1, 10**9))
def test_more_days_are_never_worth_less(balance_fen):
    values = [worth(days, balance_fen=balance_fen).value_fen for days in (0, 7, 30, 90, 400)]
    assert values == sorted(values)


def test_the_hash_of_the_inputs_tells_every_input_apart():
    hashes = {
        each.inputs_hash
        for each in (
            worth(),
            worth(364),
            worth(balance_fen=1),
            worth(category="fuel"),
            worth(product="vpr_x"),
        )
    }
    assert len(hashes) == 5
    assert worth().inputs_hash == worth().inputs_hash


async def test_the_seeded_table_falls_towards_expiry_in_every_category(db: Db):
    table = await valuation.load_rates(db, 1)
    assert {category for category, product in table.rates if not product} == {
        row["code"] for row in await db.fetch("SELECT code FROM catalogue.category")
    }
    for rates in table.rates.values():
        assert [rate.min_days_left for rate in rates] == sorted(
            (rate.min_days_left for rate in rates), reverse=True
        )
        assert [rate.value_bps for rate in rates] == sorted((rate.value_bps for rate in rates), reverse=True)


async def test_a_change_of_the_table_is_a_new_version(db: Db, now):
    before = await valuation.cached_rates().get(db, now)
    await db.execute("UPDATE valuation.rate SET value_bps = value_bps - 1 WHERE category = 'fuel'")
    after = await valuation.cached_rates().get(db, now)
    assert before.version != after.version
