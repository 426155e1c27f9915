"""The debit and credit lines of each event, and that they balance in both books."""

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from quanhui.base.db import Db
from quanhui.ledger import (
    Book,
    BoughtLine,
    Kind,
    SoldLine,
    Transfer,
    TransferKeyConflict,
    balances,
    post,
    postings,
    trial_balance,
)

amounts = st.integers(0, 10_000_000)
products = st.sampled_from(["p1", "p2", "p3"])


def sums(transfers: list[Transfer]) -> Counter[str]:
    change: Counter[str] = Counter()
    for transfer in transfers:
        change[transfer.src] -= transfer.amount_fen
        change[transfer.dst] += transfer.amount_fen
    return Counter({code: fen for code, fen in change.items() if fen})


def lines(transfers: list[Transfer]) -> list[tuple[str, str, int]]:
    return [(transfer.src, transfer.dst, transfer.amount_fen) for transfer in transfers]


@given(st.lists(st.builds(BoughtLine, products, amounts), min_size=1), st.integers(0, 10_000))
def test_a_buyback_owes_the_seller_the_net_and_earns_the_fee(bought, rate_bps):
    gross = sum(line.gross_fen for line in bought)
    fee = gross * rate_bps // 10_000
    posted = postings.buyback_accepted(
        "ord_1", seller_id="ann", lines=bought, fee_fen=fee, net_fen=gross - fee
    )
    change = sums(posted)
    assert change["user_payable:ann"] == gross - fee
    assert change["fee_income"] == fee
    assert sum(change[f"inventory:{product}"] for product in ("p1", "p2", "p3")) == -gross
    assert change["client:clearing"] + change["platform:clearing"] == 0
    assert all(transfer.amount_fen > 0 for transfer in posted)
    assert len({transfer.key for transfer in posted}) == len(posted)


def test_a_buyback_of_one_product_is_four_transfers():
    posted = postings.buyback_accepted(
        "ord_1",
        seller_id="ann",
        lines=[BoughtLine("p1", 600), BoughtLine("p1", 400)],
        fee_fen=80,
        net_fen=920,
    )
    assert lines(posted) == [
        ("inventory:p1", "platform:clearing", 1000),
        ("client:clearing", "user_payable:ann", 1000),
        ("user_payable:ann", "client:clearing", 80),
        ("platform:clearing", "fee_income", 80),
    ]
    assert [transfer.key for transfer in posted] == [f"ord_1:buyback_accepted:{n}" for n in range(4)]


def test_a_fee_and_a_net_that_do_not_make_the_gross_are_a_programmer_error():
    with pytest.raises(AssertionError):
        postings.buyback_accepted(
            "ord_1", seller_id="ann", lines=[BoughtLine("p1", 1000)], fee_fen=80, net_fen=921
        )


@given(st.lists(st.builds(SoldLine, products, amounts, amounts)))
def test_a_purchase_turns_stock_into_cost_and_money_into_revenue(sold):
    change = sums(postings.purchase_paid("pur_1", institution="bank", lines=sold))
    price, cost = sum(line.price_fen for line in sold), sum(line.cost_fen for line in sold)
    assert change["custody:bank"] == -price
    assert change["resale_revenue"] == price
    assert change["cost_of_goods"] == -cost
    assert sum(change[f"inventory:{product}"] for product in ("p1", "p2", "p3")) == cost
    assert change["client:clearing"] + change["platform:clearing"] == 0


def test_the_other_events_post_the_lines_of_the_table():
    payout = {"amount_fen": 920}
    assert lines(postings.fund_institution("fnd_1", institution="bank", amount_fen=5)) == [
        ("custody:bank", "client:clearing", 5),
        ("platform:clearing", "own_funds", 5),
    ]
    assert lines(postings.payout_sent("po_1", customer_id="ann", **payout)) == [
        ("user_payable:ann", "payout_pending", 920)
    ]
    assert lines(postings.payout_confirmed("po_1", institution="bank", channel_cost_fen=3, **payout)) == [
        ("payout_pending", "custody:bank", 920),
        ("channel_cost", "own_funds", 3),
    ]
    assert lines(postings.payout_failed("po_1", customer_id="ann", **payout)) == [
        ("payout_pending", "user_payable:ann", 920)
    ]
    assert lines(postings.payout_returned("po_1", institution="bank", customer_id="ann", **payout)) == [
        ("custody:bank", "user_payable:ann", 920)
    ]
    assert lines(postings.stored_value_topup("po_1", customer_id="ann", **payout)) == [
        ("user_payable:ann", "stored_value:ann", 920)
    ]
    assert lines(postings.goods_handover("po_1", merchant_id="shop", **payout)) == [
        ("payout_pending", "merchant_settlement:shop", 920)
    ]
    redeemed = {"issuer_id": "iss", "merchant_id": "shop", "amount_fen": 50}
    assert lines(postings.redemption_captured("red_1", **redeemed)) == [
        ("issuer_receivable:iss", "merchant_settlement:shop", 50)
    ]
    assert lines(postings.redemption_reversed("rev_1", **redeemed)) == [
        ("merchant_settlement:shop", "issuer_receivable:iss", 50)
    ]


async def test_an_order_from_funding_to_payout_leaves_every_account_where_it_should_be(db: Db, now):
    for step in (
        postings.fund_institution("fnd_1", institution="bank", amount_fen=10_000),
        postings.buyback_accepted(
            "ord_1", seller_id="ann", lines=[BoughtLine("p1", 1000)], fee_fen=80, net_fen=920
        ),
        postings.payout_sent("po_1", customer_id="ann", amount_fen=920),
        postings.payout_confirmed("po_1", institution="bank", amount_fen=920, channel_cost_fen=2),
        postings.purchase_paid("pur_1", institution="bank", lines=[SoldLine("p1", 970, 1000)]),
    ):
        await post(db, step, now=now)
    codes = ["custody:bank", "user_payable:ann", "payout_pending", "inventory:p1", "fee_income"]
    found = await balances(db, codes)
    assert [found[code].balance_fen for code in codes] == [-10_000 + 920 - 970, 0, 0, 0, 80]
    trial = await trial_balance(db)
    assert (trial.client_fen, trial.platform_fen, trial.total_fen, trial.clearing_fen) == (0, 0, 0, 0)


async def test_a_payout_ends_once_whatever_its_state_machine_believes(db: Db, now):
    await post(db, postings.fund_institution("fnd_1", institution="bank", amount_fen=10_000), now=now)
    await post(
        db,
        postings.buyback_accepted(
            "ord_1", seller_id="ann", lines=[BoughtLine("p1", 920)], fee_fen=0, net_fen=920
        ),
        now=now,
    )
    await post(db, postings.payout_sent("po_1", customer_id="ann", amount_fen=920), now=now)
    await post(db, postings.payout_confirmed("po_1", institution="bank", amount_fen=920), now=now)
    for another_end in (
        postings.payout_failed("po_1", customer_id="ann", amount_fen=920),
        postings.goods_handover("po_1", merchant_id="shop", amount_fen=920),
    ):
        with pytest.raises(TransferKeyConflict):
            await post(db, another_end, now=now)


async def test_the_chart_is_the_one_of_the_design_and_its_words_are_ours(db: Db):
    chart = {row["prefix"]: row for row in await db.fetch("SELECT * FROM ledger.chart")}
    assert set(chart) == {
        "custody",
        "user_payable",
        "payout_pending",
        "stored_value",
        "merchant_settlement",
        "merchant_receivable",
        "issuer_receivable",
        "unidentified_receipts",
        "client:clearing",
        "own_funds",
        "inventory",
        "cost_of_goods",
        "resale_revenue",
        "fee_income",
        "channel_cost",
        "campaign_subsidy",
        "loan_principal",
        "loan_interest_receivable",
        "interest_income",
        "user_receivable",
        "risk_reserve",
        "suspense",
        "platform:clearing",
    }
    assert {row["book"] for row in chart.values()} == set(Book)
    assert {row["kind"] for row in chart.values()} == set(Kind)
    guarded = {prefix for prefix, row in chart.items() if row["kind"] == Kind.GUARDED}
    assert guarded == {"user_payable", "stored_value", "merchant_settlement"}
    assert all(row["meaning_zh"] and row["meaning_en"] for row in chart.values())


async def test_every_template_names_only_accounts_of_the_chart(db: Db, now):
    one = {"amount_fen": 1}
    await post(
        db,
        [
            *postings.fund_institution("fnd_1", institution="bank", amount_fen=9),
            *postings.buyback_accepted(
                "ord_1", seller_id="ann", lines=[BoughtLine("p1", 9)], fee_fen=1, net_fen=8
            ),
            *postings.payout_sent("po_1", customer_id="ann", **one),
            *postings.payout_sent("po_2", customer_id="ann", **one),
            *postings.payout_sent("po_3", customer_id="ann", **one),
            *postings.payout_confirmed("po_1", institution="bank", channel_cost_fen=1, **one),
            *postings.payout_returned("po_1", institution="bank", customer_id="ann", **one),
            *postings.payout_failed("po_2", customer_id="ann", **one),
            *postings.goods_handover("po_3", merchant_id="shop", **one),
            *postings.stored_value_topup("top_1", customer_id="ann", **one),
            *postings.purchase_paid("pur_1", institution="bank", lines=[SoldLine("p1", 2, 1)]),
            *postings.redemption_captured("red_1", issuer_id="iss", merchant_id="shop", **one),
            *postings.redemption_reversed("rev_1", issuer_id="iss", merchant_id="shop", **one),
            *postings.merchant_corrected("dsp_1", merchant_id="shop", amount_fen=9),
            *postings.merchant_corrected("dsp_2", merchant_id="shop", amount_fen=-1),
            *postings.merchant_charged("mch_1", merchant_id="shop", short_fen=1, **one),
            *postings.merchant_paid("mst_1", institution="bank", merchant_id="shop", fee_fen=1, net_fen=2),
            *postings.merchant_paid("mst_2", institution="bank", merchant_id="shop", fee_fen=-1, net_fen=2),
            *postings.merchant_set_off("mst_1", merchant_id="shop", **one),
        ],
        now=now,
    )
    trial = await trial_balance(db)
    assert (trial.client_fen, trial.platform_fen, trial.total_fen, trial.clearing_fen) == (0, 0, 0, 0)
