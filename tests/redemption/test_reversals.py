import asyncio

import pytest
from factories.tills import balance, issue, open_trade, spend

from quanhui import evidence, ledger, redemption, vouchers
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.redemption import NotReversible, ReversalState, State


@pytest.fixture
async def trade(db: Db, now):
    return await open_trade(db, now=now)


async def reverse(db: Db, redemption_id: str, amount_fen: int | None = None, *, now):
    return await redemption.reverse(
        db, redemption_id, amount_fen=amount_fen, reason="顾客退货", operator_id="opr_1", now=now
    )


async def now_is(db: Db, redemption_id: str) -> redemption.Redemption:
    return (await redemption.find_redemptions(db, [redemption_id]))[0]


async def test_a_reversal_gives_back_to_the_same_voucher_in_parts_and_never_too_much(
    db: Db, keyring, trade, now
):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    spent = await spend(db, keyring, trade, code, 60_00, now=now)
    done = await reverse(db, spent.id, 25_00, now=now)
    assert (done.state, done.amount_fen) == (ReversalState.DONE, 25_00)
    assert await balance(db, voucher.id) == (65_00, 0, 35_00)
    with pytest.raises(NotReversible) as refusal:
        await reverse(db, spent.id, 35_01, now=now)
    assert refusal.value.facts == {"reversible_fen": 35_00}
    partly = await now_is(db, spent.id)
    assert (partly.state, partly.reversed_fen) == (State.CAPTURED, 25_00)
    await reverse(db, spent.id, now=now)
    assert (await now_is(db, spent.id)).state is State.REVERSED
    assert await balance(db, voucher.id) == (100_00, 0, 0)
    with pytest.raises(NotReversible):
        await reverse(db, spent.id, 1, now=now)
    found = await ledger.balances(db, [f"merchant_settlement:{trade.till.merchant_id}"])
    assert [each.balance_fen for each in found.values()] == [0]
    kinds = [event.kind for event in await evidence.path_of(db, voucher.id)]
    assert kinds == ["redeemed", "redemption_reversed", "redemption_reversed"]


async def test_reversals_that_race_give_back_at_most_what_was_captured(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        trade = await open_trade(db, now=now)
        code, voucher = await issue(db, keyring, trade.card, now=now)
        spent = await spend(db, keyring, trade, code, 50_00, now=now)

    async def take_back():
        async with transaction(pool) as db:
            return await reverse(db, spent.id, 20_00, now=now)

    outcomes = await asyncio.gather(*(take_back() for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, NotReversible) for outcome in outcomes) == 6
    async with transaction(pool) as db:
        assert await balance(db, voucher.id) == (90_00, 0, 10_00)


async def test_what_the_merchant_was_paid_for_is_still_reversed_at_most_whole(db: Db, keyring, trade, now):
    code, _ = await issue(db, keyring, trade.card, now=now)
    spent = await spend(db, keyring, trade, code, now=now)
    assert await redemption.mark_settled(db, [spent.id], now=now) == 1
    assert await redemption.mark_settled(db, [spent.id], now=now) == 0
    await reverse(db, spent.id, now=now)
    assert (await now_is(db, spent.id)).state is State.REVERSED
    with pytest.raises(NotReversible):
        await reverse(db, spent.id, now=now)


async def test_a_voucher_that_passed_on_gets_nothing_back(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now, holder_id="cus_1")
    spent = await spend(db, keyring, trade, code, 10_00, now=now)
    claim = vouchers.Claim(voucher.id, voucher.fingerprint, "ord_1", "cus_1")
    await vouchers.claim(db, [claim], now=now)
    with pytest.raises(NotReversible):
        await reverse(db, spent.id, now=now)
    await vouchers.take_title(db, {voucher.id: "ord_1"})
    await vouchers.reserve(db, [voucher.id])
    await vouchers.assign(db, [voucher.id], holder_id="cus_2", now=now)
    with pytest.raises(NotReversible):
        await reverse(db, spent.id, now=now)


async def test_what_is_only_authorised_or_nobodys_is_not_reversed(db: Db, keyring, trade, now):
    with pytest.raises(NotFound):
        await reverse(db, "rdm_nobodys", now=now)
