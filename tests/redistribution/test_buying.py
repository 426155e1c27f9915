import asyncio
from datetime import timedelta

import pytest
from factories.market import (
    committed_market,
    custody,
    freeze,
    heard,
    lapse,
    listen,
    on_market,
    pay,
    reread,
    reserved,
    sold,
    states,
)

from quanhui import evidence, ledger, redistribution as market, vouchers
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.redistribution import PurchaseState
from quanhui.redistribution.rules import AFTERCARE, GUARANTEE, MOST_RESERVED


async def balances(db: Db, *codes: str) -> list[int]:
    found = await ledger.balances(db, codes)
    return [found[code].balance_fen if code in found else 0 for code in codes]


async def test_two_buyers_of_one_listing_make_one_purchase_and_one_polite_refusal(pool: Pool, keyring, now):
    (listing,) = await committed_market(pool, keyring, now=now)

    async def buy(number: int):
        async with transaction(pool) as db:
            return await market.reserve(db, [listing.id], buyer_id=f"cus_{number}", now=now)

    outcomes = await asyncio.gather(*(buy(number) for number in range(12)), return_exceptions=True)
    assert sum(isinstance(outcome, market.Purchase) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, market.ListingTaken) for outcome in outcomes) == 11


async def test_overlapping_sets_bought_in_opposite_orders_never_deadlock(pool: Pool, keyring, now):
    listings = await committed_market(pool, keyring, 10, now=now)
    ids = [each.id for each in listings]

    async def buy(number: int):
        async with transaction(pool) as db:
            wanted = ids if number % 2 else ids[::-1]
            return await market.reserve(db, wanted, buyer_id=f"cus_{number}", now=now)

    outcomes = await asyncio.gather(*(buy(number) for number in range(10)), return_exceptions=True)
    assert sum(isinstance(outcome, market.Purchase) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, market.ListingTaken) for outcome in outcomes) == 9


async def test_a_set_is_reserved_whole_or_not_at_all(pool: Pool, keyring, now):
    listings = await committed_market(pool, keyring, 3, now=now)
    async with transaction(pool) as db:
        await market.reserve(db, [listings[1].id], buyer_id="cus_1", now=now)
    with pytest.raises(market.ListingTaken) as refusal:
        async with transaction(pool) as db:
            await market.reserve(db, [each.id for each in listings], buyer_id="cus_2", now=now)
    assert refusal.value.facts == {"listings": [listings[1].id]}
    async with transaction(pool) as db:
        assert await states(db, listings) == ["listed", "reserved", "listed"]


async def test_a_frozen_voucher_cannot_be_bought(db: Db, keyring, now):
    listings = await on_market(db, keyring, now=now)
    await freeze(db, listings)
    with pytest.raises(market.ListingTaken):
        await market.reserve(db, [listings[0].id], buyer_id="cus_1", now=now)


async def test_nobody_empties_the_market_unpaid(pool: Pool, keyring, now):
    listings = await committed_market(pool, keyring, MOST_RESERVED + 10, now=now)
    ids = [each.id for each in listings]

    async def buy(start: int):
        async with transaction(pool) as db:
            return await market.reserve(db, ids[start : start + 10], buyer_id="cus_greedy", now=now)

    starts = range(0, len(ids), 10)
    outcomes = await asyncio.gather(*(buy(start) for start in starts), return_exceptions=True)
    assert sum(isinstance(outcome, market.TooManyReserved) for outcome in outcomes) == 1


async def test_a_payment_sells_posts_and_records_once_however_often_it_is_told(db: Db, keyring, now):
    await listen(db)
    purchase, listings = await reserved(db, keyring, 2, now=now)
    await pay(db, purchase, now=now)
    await pay(db, purchase, now=now)
    paid = await reread(db, purchase)
    assert (paid.state, paid.received_fen, paid.paid_at) == (PurchaseState.PAID, 190_00, now)
    assert await states(db, listings) == ["sold", "sold"]
    held = await vouchers.find_vouchers(db, [each.voucher_id for each in listings])
    assert {(each.custody, each.holder_id) for each in held.values()} == {("assigned", "cus_buyer")}
    assert await balances(db, "custody:institution", "resale_revenue", "cost_of_goods") == [
        -190_00,
        190_00,
        -176_00,
    ]
    kinds = [event.kind for event in await evidence.path_of(db, listings[0].voucher_id)]
    assert kinds == ["listed", "reserved", "sold"]
    (fact,) = await heard(db, "redistribution.sold", now=now)
    assert fact.payload["total_fen"] == 190_00
    assert {line["cost_fen"] for line in fact.payload["vouchers"]} == {88_00}


async def test_a_payment_confirmed_by_two_workers_at_once_sells_once(pool: Pool, keyring, now):
    listings = await committed_market(pool, keyring, 2, now=now)
    async with transaction(pool) as db:
        purchase = await market.reserve(db, [each.id for each in listings], buyer_id="cus_1", now=now)

    async def confirm():
        async with transaction(pool) as db:
            await pay(db, purchase, now=now)

    await asyncio.gather(*(confirm() for _ in range(8)))
    async with transaction(pool) as db:
        assert await balances(db, "resale_revenue") == [190_00]
        assert len(await heard(db, "redistribution.sold", now=now)) == 1


@pytest.mark.parametrize("amount_fen", [94_99, 95_01, 1])
async def test_a_wrong_amount_buys_nothing_and_is_owed_back(db: Db, keyring, now, amount_fen):
    await listen(db)
    purchase, listings = await reserved(db, keyring, now=now)
    await pay(db, purchase, now=now, amount_fen=amount_fen)
    after = await reread(db, purchase)
    assert (after.state, after.reason, after.received_fen) == ("refund_due", "wrong_amount", amount_fen)
    assert await states(db, listings) == ["listed"]
    assert await custody(db, listings) == {"platform_held"}
    assert await balances(db, "user_payable:cus_buyer", "resale_revenue") == [amount_fen, 0]
    (mismatch,) = await heard(db, "redistribution.payment_mismatched", now=now)
    assert mismatch.payload == {"total_fen": 95_00, "received_fen": amount_fen}


async def test_a_number_that_is_not_ours_sells_nothing(db: Db, now):
    for out_no in ("", "X420000000001", "pur", "pur01kaqtj3v8f6rr3y1n5w9e2mzc"):
        payment = market.Payment(out_no=out_no, amount_fen=1)
        await market.confirm_paid(db, [payment], institution="institution", now=now)


async def test_a_lapsed_reservation_is_kept_until_the_institution_has_closed_the_payment(
    db: Db, keyring, now
):
    await listen(db)
    purchase, listings = await reserved(db, keyring, now=now)
    assert await market.sweep_reservations(db, now=purchase.reserved_until - timedelta(seconds=1)) == 0
    assert await market.sweep_reservations(db, now=purchase.reserved_until) == 1
    assert await market.sweep_reservations(db, now=purchase.reserved_until) == 0
    assert await states(db, listings) == ["reserved"]
    (wanted,) = await heard(db, "redistribution.close_wanted", now=purchase.reserved_until)
    assert wanted.subject == purchase.id
    await market.release(db, [purchase.id], now=purchase.reserved_until)
    assert await states(db, listings) == ["listed"]
    assert await custody(db, listings) == {"platform_held"}
    assert (await reread(db, purchase)).state is PurchaseState.CLOSED


async def test_a_payment_that_comes_after_the_lapse_still_buys_what_is_free(db: Db, keyring, now):
    purchase, listings = await reserved(db, keyring, 2, now=now)
    after = await lapse(db, purchase, now=now)
    await market.delist(db, [listings[0].id], now=after)
    await market.list_vouchers(db, [market.Price(listings[0].id, 99_00)], now=after)
    await pay(db, purchase, now=after)
    paid = await reread(db, purchase)
    assert (paid.state, paid.reason) == (PurchaseState.PAID, None)
    assert await states(db, listings) == ["sold", "sold"]
    assert await balances(db, "resale_revenue") == [190_00]


async def test_a_payment_that_comes_after_someone_else_bought_is_given_back(db: Db, keyring, now):
    await listen(db)
    purchase, listings = await reserved(db, keyring, 2, now=now)
    after = await lapse(db, purchase, now=now)
    other = await market.reserve(db, [listings[0].id], buyer_id="cus_other", now=after)
    await pay(db, purchase, now=after)
    await pay(db, purchase, now=after)
    late = await reread(db, purchase)
    assert (late.state, late.reason) == (PurchaseState.REFUND_DUE, "taken_meanwhile")
    assert await states(db, listings) == ["reserved", "listed"]
    assert await balances(db, "user_payable:cus_buyer", "custody:institution") == [190_00, -190_00]
    (wanted,) = await heard(db, "redistribution.refund_wanted", now=after)
    await market.confirm_refunds(db, [wanted.subject], institution="institution", now=after)
    await market.confirm_refunds(db, [wanted.subject], institution="institution", now=after)
    assert (await reread(db, purchase)).state is PurchaseState.REFUNDED
    assert await balances(db, "user_payable:cus_buyer", "custody:institution") == [0, 0]
    await pay(db, other, now=after)
    assert (await reread(db, other)).state is PurchaseState.PAID


async def test_a_payment_that_comes_after_the_voucher_was_frozen_or_expired_is_given_back(
    db: Db, keyring, now
):
    frozen, listings = await reserved(db, keyring, now=now)
    expired, _ = await reserved(db, keyring, now=now, days=10)
    after = now + market.RESERVE_FOR
    await market.sweep_reservations(db, now=after)
    await market.release(db, [frozen.id, expired.id], now=after)
    await freeze(db, listings)
    await pay(db, frozen, expired, now=now + timedelta(days=10))
    assert [(await reread(db, each)).state for each in (frozen, expired)] == ["refund_due"] * 2


async def test_vouchers_frozen_while_reserved_leave_the_market_when_released(db: Db, keyring, now):
    purchase, listings = await reserved(db, keyring, 2, now=now)
    await freeze(db, listings[:1])
    await lapse(db, purchase, now=now)
    assert await states(db, listings) == ["delisted", "listed"]


async def test_cancelling_closes_the_payment_first_and_only_the_buyer_may(db: Db, keyring, now):
    await listen(db)
    purchase, listings = await reserved(db, keyring, now=now)
    with pytest.raises(NotFound):
        await market.cancel(db, purchase.id, buyer_id="cus_stranger", now=now)
    for _ in range(2):
        closing = await market.cancel(db, purchase.id, buyer_id="cus_buyer", now=now)
        assert (closing.state, closing.closing_at) == (PurchaseState.PENDING_PAYMENT, now)
    assert len(await heard(db, "redistribution.close_wanted", now=now)) == 1
    await market.release(db, [purchase.id], now=now)
    cancelled = await market.cancel(db, purchase.id, buyer_id="cus_buyer", now=now)
    assert (cancelled.state, cancelled.reason) == (PurchaseState.CLOSED, "cancelled")
    assert await states(db, listings) == ["listed"]


async def test_what_is_paid_can_be_neither_cancelled_nor_released(db: Db, keyring, now):
    purchase, listings = await sold(db, keyring, now=now)
    with pytest.raises(market.NotCancellable):
        await market.cancel(db, purchase.id, buyer_id="cus_buyer", now=now)
    await market.release(db, [purchase.id], now=now)
    assert await states(db, listings) == ["sold"]


async def test_a_code_is_shown_to_its_buyer_alone_and_only_once_it_is_paid(db: Db, keyring, now):
    purchase, listings = await reserved(db, keyring, 2, now=now)

    async def reveal(buyer_id: str = "cus_buyer", listing_ids: list[str] | None = None):
        return await market.reveal(
            db,
            keyring,
            purchase.id,
            buyer_id=buyer_id,
            actor_id="cus_buyer",
            listing_ids=listing_ids,
            now=now,
        )

    with pytest.raises(market.NotRevealable):
        await reveal()
    await pay(db, purchase, now=now)
    with pytest.raises(NotFound):
        await reveal("cus_stranger")
    with pytest.raises(NotFound):
        await reveal(listing_ids=[listings[0].id, "lst_somebody_elses"])
    first = await reveal(listing_ids=[listings[0].id])
    assert list(first) == [listings[0].id]
    assert await states(db, listings) == ["revealed", "sold"]
    assert len(await reveal()) == 2
    assert await db.fetchval("SELECT count(*) FROM vouchers.reveal WHERE actor_id = 'cus_buyer'") == 3
    kinds = [event.kind for event in await evidence.path_of(db, listings[0].voucher_id)]
    assert kinds == ["listed", "reserved", "sold", "revealed"]


async def test_a_frozen_voucher_is_not_revealed(db: Db, keyring, now):
    purchase, listings = await sold(db, keyring, now=now)
    await freeze(db, listings)
    with pytest.raises(market.NotRevealable):
        await market.reveal(db, keyring, purchase.id, buyer_id="cus_buyer", actor_id="cus_buyer", now=now)


async def test_who_sold_a_voucher_on_does_not_see_its_code_any_more(db: Db, keyring, now):
    purchase, (listing,) = await sold(db, keyring, now=now)
    codes = await market.reveal(db, keyring, purchase.id, buyer_id="cus_buyer", actor_id="cus_buyer", now=now)
    fingerprint = vouchers.fingerprint_of(keyring, issuer_id="iss_own", code=codes[listing.id])
    claim = vouchers.Claim(listing.voucher_id, fingerprint, "ord_again", "cus_buyer")
    await vouchers.claim(db, [claim], now=now)
    with pytest.raises(market.NotRevealable):
        await market.reveal(db, keyring, purchase.id, buyer_id="cus_buyer", actor_id="cus_buyer", now=now)


async def test_the_guarantee_runs_from_the_first_reveal_and_then_the_sale_is_closed(db: Db, keyring, now):
    purchase, listings = await sold(db, keyring, now=now)
    assert await market.sweep_guarantees(db, now=now + timedelta(days=100)) == 0
    await market.reveal(db, keyring, purchase.id, buyer_id="cus_buyer", actor_id="cus_buyer", now=now)
    end = now + GUARANTEE
    assert await market.sweep_guarantees(db, now=end - timedelta(microseconds=1)) == 0
    assert await market.sweep_guarantees(db, now=end) == 1
    assert await states(db, listings) == ["guaranteed"]
    assert await market.sweep_guarantees(db, now=end + AFTERCARE) == 1
    assert await states(db, listings) == ["closed"]
