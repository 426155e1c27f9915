"""From a quote to title, for vouchers of our own issue: all in one transaction."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from factories.deals import (
    COUPON,
    QUOTE_TTL,
    STORED_VALUE,
    Deal,
    events_of,
    fresh_code,
    reread,
    told,
)
from factories.payouts import sellers

from quanhui import buyback, customers, ledger, vouchers
from quanhui.base.db import Db, Pool, in_transaction, transaction
from quanhui.buyback import OrderState, PayoutChoice, QuoteState, Refusal
from quanhui.buyback.errors import (
    MethodNotAllowed,
    OrderNotOpen,
    PayeeNotVerified,
    QuoteExpired,
    QuoteNotOpen,
    StoredValueFull,
    VoucherNotAccepted,
)
from quanhui.compliance import Method
from quanhui.ledger import postings
from quanhui.vouchers import Custody, Spend


def cash(payee_id: str | None) -> PayoutChoice:
    return PayoutChoice(method=Method.CASH, payee_id=payee_id)


async def owed(db, seller_id: str) -> int:
    code = postings.user_payable(seller_id)
    found = await ledger.balances(db, [code])
    return found[code].balance_fen if code in found else 0


async def books_balance(db: Db) -> None:
    found = await ledger.trial_balance(db)
    assert (found.client_fen, found.platform_fen, found.total_fen, found.clearing_fen) == (0, 0, 0, 0)


async def test_an_accepted_voucher_is_ours_and_its_seller_is_owed_the_net(db: Db, deal: Deal):
    code = await deal.issue(db)
    order = await deal.accept(db, await deal.sell(db, code))
    voucher = await deal.voucher(db, code)
    assert (order.state, order.quote.state) == (OrderState.SETTLING, QuoteState.ACCEPTED)
    assert (voucher.custody, voucher.holder_id) == (Custody.PLATFORM_HELD, vouchers.PLATFORM)
    assert await owed(db, "cus_1") == order.quote.net_fen
    assert await reread(db, order) == order
    await books_balance(db)


async def test_the_code_that_the_seller_knew_is_dead_and_a_new_one_is_alive(db: Db, deal: Deal):
    code = await deal.issue(db)
    order = await deal.accept(db, await deal.sell(db, code))
    (line,) = order.lines
    (alive,) = (await vouchers.open_codes(db, deal.keyring, [line.voucher_id])).values()
    assert alive != code
    for seller in ("cus_1", "cus_2"):
        assert [each.refusal for each in (await deal.sell(db, code, seller=seller)).lines] == [
            Refusal.DEAD_CODE
        ]
    assert [each.refusal for each in (await deal.sell(db, alive)).lines] == [Refusal.NOT_HOLDER]


async def test_the_whole_path_of_each_voucher_is_in_the_evidence(db: Db, deal: Deal):
    order = await deal.accept(db, await deal.sell(db, *await deal.issue_many(db, 3)))
    ids = [line.voucher_id for line in order.lines]
    for voucher_id in ids:
        assert [kind for about, kind in await events_of(db, order) if about == voucher_id] == [
            "claimed",
            "title_transferred",
            "rekeyed",
        ]


async def test_that_vouchers_are_secured_is_told_once_with_all_that_the_listeners_need(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db), "rubbish", await deal.issue(db))
    order = await deal.accept(db, order)
    (fact,) = await told(db, buyback.SECURED)
    good = [line for line in order.lines if line.refusal is None]
    assert fact["voucher_ids"] == [line.voucher_id for line in good]
    assert [each["cost_fen"] for each in fact["vouchers"]] == [line.gross_fen for line in good]
    assert (fact["order_id"], fact["seller_id"], fact["net_fen"], fact["method"], fact["hold_reason"]) == (
        order.id,
        "cus_1",
        order.quote.net_fen,
        "stored_value",
        None,
    )
    assert await told(db, buyback.ACCEPTED) == []


async def test_a_bought_voucher_may_be_sold_again_by_its_new_holder_alone(db: Db, deal: Deal, now):
    order = await deal.accept(db, await deal.sell(db, await deal.issue(db)))
    ids = [order.lines[0].voucher_id]
    await vouchers.reserve(db, ids)
    await vouchers.assign(db, ids, holder_id="cus_buyer", now=now)
    (code,) = (await vouchers.open_codes(db, deal.keyring, ids)).values()
    assert (await deal.sell(db, code, seller="cus_thief")).lines[0].refusal is Refusal.NOT_HOLDER
    again = await deal.accept(db, await deal.sell(db, code, seller="cus_buyer"))
    assert again.state is OrderState.SETTLING


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1), timedelta(days=1)])
async def test_an_expired_quote_cannot_be_accepted_nor_at_the_instant_it_expires(
    db: Db, deal: Deal, late, now
):
    order = await deal.sell(db, await deal.issue(db))
    with pytest.raises(QuoteExpired):
        await deal.accept(db, order, at=now + QUOTE_TTL + late)


async def test_a_quote_is_good_up_to_its_last_instant(db: Db, deal: Deal, now):
    order = await deal.sell(db, await deal.issue(db))
    order = await deal.accept(db, order, at=now + QUOTE_TTL - timedelta(microseconds=1))
    assert order.state is OrderState.SETTLING


async def test_a_quote_that_the_clock_has_expired_is_told_as_expired(db: Db, deal: Deal, now):
    order = await deal.sell(db, await deal.issue(db))
    await buyback.expire_quotes(db, now=now + QUOTE_TTL)
    with pytest.raises(QuoteExpired):
        await deal.accept(db, order)


async def test_accepting_twice_is_refused_and_changes_nothing(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db))
    await deal.accept(db, order)
    with pytest.raises(QuoteNotOpen):
        await deal.accept(db, order)
    assert len(await told(db, buyback.SECURED)) == 1
    assert await owed(db, "cus_1") == order.quote.net_fen


async def test_two_who_accept_one_quote_at_once_make_one_deal(pool: Pool, open_deal: Deal):
    async with transaction(pool) as db:
        order = await open_deal.sell(db, await open_deal.issue(db))

    async def accept() -> object:
        return await in_transaction(pool, lambda db: open_deal.accept(db, order))

    outcomes = await asyncio.gather(*(accept() for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, buyback.Order) for outcome in outcomes) == 1
    assert all(isinstance(each, buyback.Order | QuoteNotOpen | OrderNotOpen) for each in outcomes)
    assert len(await told(pool, buyback.SECURED)) == 1


async def test_of_sixty_four_sellers_racing_for_one_voucher_one_wins(pool: Pool, open_deal: Deal):
    deal = open_deal
    async with transaction(pool) as db:
        code = await deal.issue(db)
        orders = [await deal.sell(db, code, seller=f"cus_{number}") for number in range(64)]

    async def accept(order: buyback.Order) -> buyback.Order:
        return await in_transaction(pool, lambda db: deal.accept(db, order))

    outcomes = await asyncio.gather(*map(accept, orders), return_exceptions=True)
    (won,) = [outcome for outcome in outcomes if isinstance(outcome, buyback.Order)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, VoucherNotAccepted)]
    assert len(lost) == 63
    assert all(refusal.facts["lines"] == [1] for refusal in lost)
    async with transaction(pool) as db:
        voucher = await deal.voucher(db, code)
        assert [await owed(db, order.seller_id) for order in orders if order.id != won.id] == [0] * 63
        assert await owed(db, won.seller_id) == won.quote.net_fen
        assert await vouchers.live_claims(db, [voucher.id]) == {voucher.id: won.id}
        await books_balance(db)
        kinds = [kind for order in orders for _, kind in await events_of(db, order)]
    assert sorted(kinds) == ["claimed", "rekeyed", "title_transferred"]
    assert [fact["order_id"] for fact in await told(pool, buyback.SECURED)] == [won.id]


async def test_an_order_is_bought_whole_or_not_at_all(pool: Pool, open_deal: Deal):
    deal = open_deal
    async with transaction(pool) as db:
        shared, alone = await deal.issue(db), await deal.issue(db)
        order = await deal.sell(db, alone, shared)
        await deal.accept(db, await deal.sell(db, shared, seller="cus_2"))
    with pytest.raises(VoucherNotAccepted) as refusal:
        await in_transaction(pool, lambda db: deal.accept(db, order))
    assert refusal.value.facts == {"order_id": order.id, "lines": [2]}
    async with transaction(pool) as db:
        assert (await deal.voucher(db, alone)).custody is Custody.SELLER_HELD
        assert (await reread(db, order)).state is OrderState.QUOTED


async def test_a_voucher_spent_after_the_quote_is_not_bought(db: Db, deal: Deal, now):
    code = await deal.issue(db)
    order = await deal.sell(db, code)
    spend = [Spend(order.lines[0].voucher_id, 1)]
    await vouchers.authorise(db, spend, now=now)
    await vouchers.capture(db, spend, spend)
    with pytest.raises(VoucherNotAccepted):
        await deal.accept(db, order)
    rest = await deal.sell(db, code)
    assert rest.lines[0].balance_fen == order.lines[0].balance_fen - 1
    assert (await deal.accept(db, rest)).state is OrderState.SETTLING


async def test_a_voucher_frozen_after_the_quote_is_not_bought(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db))
    await vouchers.set_integrity(db, [order.lines[0].voucher_id], vouchers.Integrity.FROZEN)
    with pytest.raises(VoucherNotAccepted):
        await deal.accept(db, order)


async def test_a_voucher_that_expired_after_the_quote_is_not_bought(db: Db, deal: Deal, now):
    order = await deal.sell(db, await deal.issue(db))
    await db.execute("UPDATE vouchers.voucher SET expires_at = $1", now)
    with pytest.raises(VoucherNotAccepted):
        await deal.accept(db, order)


async def test_the_quote_of_another_order_opens_nothing(db: Db, deal: Deal):
    order, other = await deal.sell(db, await deal.issue(db)), await deal.sell(db, await deal.issue(db))
    locked = await buyback.lock_order(db, order.id)
    with pytest.raises(QuoteNotOpen):
        wrong = buyback.Acceptance(locked, other.quote.id, STORED_VALUE)
        await buyback.accept_quotes(db, await deal.terms(db), [wrong], now=deal.now)


async def test_cash_goes_to_an_open_payee_of_ones_own(db: Db, deal: Deal, now):
    (seller, payee), (_, foreign) = await sellers(db, deal.keyring, 2, now=now)
    order = await deal.sell(db, await deal.issue(db), seller=seller)
    with pytest.raises(MethodNotAllowed):
        await deal.accept(db, order, cash(None))
    for wrong in (foreign, "pya_nobody"):
        with pytest.raises(PayeeNotVerified):
            await deal.accept(db, order, cash(wrong))
    assert (await deal.accept(db, order, cash(payee))).payee_id == payee
    (fact,) = await told(db, buyback.SECURED)
    assert (fact["method"], fact["payee_id"], fact["hold_reason"]) == ("cash", payee, None)


async def test_cash_does_not_go_to_a_payee_that_was_closed(db: Db, deal: Deal, now):
    ((seller, payee),) = await sellers(db, deal.keyring, 1, now=now)
    order = await deal.sell(db, await deal.issue(db), seller=seller)
    await customers.close_payee(db, customer_id=seller, payee_id=payee, now=now)
    with pytest.raises(PayeeNotVerified):
        await deal.accept(db, order, cash(payee))


async def test_a_marketing_coupon_is_not_paid_in_cash(db: Db, deal: Deal, now):
    ((seller, payee),) = await sellers(db, deal.keyring, 1, now=now)
    order = await deal.sell(db, await deal.issue(db, COUPON), seller=seller)
    with pytest.raises(MethodNotAllowed) as refusal:
        await deal.accept(db, order, cash(payee))
    assert refusal.value.facts == {"allowed": ["goods", "stored_value"]}
    assert (await deal.accept(db, order)).method == "stored_value"


async def test_goods_need_a_store_and_a_payee_named_beside_them_is_ignored(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db))
    with pytest.raises(MethodNotAllowed):
        await deal.accept(db, order, PayoutChoice(method=Method.GOODS))
    choice = PayoutChoice(method=Method.GOODS, store_id="sto_1", payee_id="pya_1")
    order = await deal.accept(db, order, choice)
    assert (order.goods_store_id, order.payee_id) == ("sto_1", None)


async def test_a_payee_that_many_sellers_share_holds_the_payout(db: Db, deal: Deal, now):
    ((seller, payee),) = await sellers(db, deal.keyring, 1, now=now)
    await db.executemany(
        "INSERT INTO risk.payee_use VALUES ($1, $2, $3)", [(payee, f"cus_{i}", now) for i in range(3)]
    )
    order = await deal.accept(db, await deal.sell(db, await deal.issue(db), seller=seller), cash(payee))
    (fact,) = await told(db, buyback.SECURED)
    assert fact["hold_reason"] == order.hold_reason == "payee-shared"
    decisions = await db.fetch(
        "SELECT outcome FROM risk.decision WHERE subject = $1 ORDER BY at, id", order.id
    )
    assert [row["outcome"] for row in decisions] == ["allow", "hold"]


async def test_expiring_passes_over_an_order_that_is_being_accepted_and_waits_for_nobody(
    pool: Pool, open_deal: Deal, now
):
    async with transaction(pool) as db:
        order = await open_deal.sell(db, await open_deal.issue(db))
    late = now + QUOTE_TTL
    async with transaction(pool) as accepting:
        locked = await buyback.lock_order(accepting, order.id)
        expire = in_transaction(pool, lambda db: buyback.expire_quotes(db, now=late))
        assert await asyncio.wait_for(expire, 2) == 0
        terms = await open_deal.terms(accepting)
        acceptance = buyback.Acceptance(locked, order.quote.id, STORED_VALUE)
        await buyback.accept_quotes(accepting, terms, [acceptance], now=now)
    assert await in_transaction(pool, lambda db: buyback.expire_quotes(db, now=late)) == 0
    assert (await reread(pool, order)).state is OrderState.SETTLING


async def test_a_settled_order_goes_back_to_settling_when_its_money_returns_and_closes_in_the_end(
    db: Db, deal: Deal, now
):
    order = await deal.accept(db, await deal.sell(db, await deal.issue(db)))
    await buyback.mark_settled(db, [order.id], now=now)
    await buyback.mark_settled(db, [order.id], now=now)
    assert (await reread(db, order)).state is OrderState.SETTLED
    await buyback.mark_returned(db, [order.id], now=now)
    assert (await reread(db, order)).state is OrderState.SETTLING
    await buyback.mark_settled(db, [order.id], now=now)
    month = timedelta(days=30)
    assert await buyback.close_settled(db, now=now + month - timedelta(microseconds=1)) == 0
    assert await buyback.close_settled(db, now=now + month) == 1
    assert (await reread(db, order)).state is OrderState.CLOSED


async def test_the_database_refuses_a_move_that_the_table_does_not_list(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="illegal move"):
        await db.execute("UPDATE buyback.buyback_order SET state = 'settled' WHERE id = $1", order.id)


async def test_an_order_of_refused_lines_has_nothing_to_accept(db: Db, deal: Deal):
    order = await deal.sell(db, fresh_code(COUPON))
    locked = await buyback.lock_order(db, order.id)
    with pytest.raises(QuoteNotOpen):
        nothing = buyback.Acceptance(locked, "quo_1", STORED_VALUE)
        await buyback.accept_quotes(db, await deal.terms(db), [nothing], now=deal.now)


async def test_stored_value_beyond_the_limit_is_refused_before_anything_is_claimed(db: Db, deal: Deal, now):
    code = await deal.issue(db)
    order = await deal.sell(db, code)
    held = postings.stored_value("cus_1")
    full = [
        ledger.Transfer(
            key="opening:1",
            src="client:clearing",
            dst=held,
            amount_fen=5_000_00 - order.quote.net_fen + 1,
            event="opening",
            subject="opening",
        )
    ]
    await ledger.post(db, full, now=now)
    with pytest.raises(StoredValueFull) as refusal:
        await deal.accept(db, order, choice=STORED_VALUE)
    assert refusal.value.facts == {"room_fen": order.quote.net_fen - 1}
    assert (await reread(db, order)).state is OrderState.QUOTED
