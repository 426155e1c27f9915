from datetime import timedelta

import asyncpg
import pytest
from factories.market import bought, freeze, on_market, reserved, states

from quanhui import evidence, redistribution as market, vouchers
from quanhui.base.db import Db
from quanhui.redistribution import ListingState, Price
from quanhui.redistribution.rules import MACHINES, PriceStep, automatic_price_fen


async def test_a_voucher_comes_into_stock_once_however_often_it_is_told(db: Db, keyring, now):
    delivery = await bought(db, keyring, 3, now=now)
    drafts = await market.take_into_stock(db, [delivery], now=now)
    assert [(draft.state, draft.price_fen, draft.cost_fen) for draft in drafts] == [
        (ListingState.DRAFT, None, 88_00)
    ] * 3
    assert await market.take_into_stock(db, [delivery], now=now) == []


async def test_new_stock_is_listed_at_the_price_of_the_table_and_the_rest_waits_for_a_person(
    db: Db, keyring, now
):
    far = await market.take_into_stock(db, [await bought(db, keyring, now=now, days=365)], now=now)
    near = await market.take_into_stock(db, [await bought(db, keyring, now=now, days=3)], now=now)
    frozen = await market.take_into_stock(db, [await bought(db, keyring, now=now)], now=now)
    await freeze(db, frozen)
    assert await market.list_new_stock(db, now=now) == 3
    assert await states(db, [*far, *near, *frozen]) == ["listed", "draft", "draft"]
    assert (await market.find_listings(db, [far[0].id]))[0].price_fen == 96_00
    assert await market.list_new_stock(db, now=now) == 0
    kinds = [event.kind for event in await evidence.path_of(db, far[0].voucher_id)]
    assert kinds == ["listed"]


STEPS = [PriceStep("*", 90, 9500), PriceStep("*", 7, 9000), PriceStep("vpr_own", 30, 9900)]


@pytest.mark.parametrize(
    ("product_id", "days", "cost_fen", "value_fen", "price_fen"),
    [
        ("vpr_any", 90, 50_00, 100_00, 95_00),
        ("vpr_any", 89, 50_00, 100_00, 90_00),
        ("vpr_any", 6, 50_00, 100_00, None),
        ("vpr_own", 365, 50_00, 100_00, 99_00),
        ("vpr_own", 20, 50_00, 100_00, None),
        ("vpr_any", 365, 97_00, 100_00, 97_00),  # never below cost
        ("vpr_any", 365, 97_00, 60_00, 60_00),  # nor above what is left
        ("vpr_any", 365, 0, 1_01, 95),  # rounded down
        ("vpr_any", 365, 0, 0, None),
    ],
)
def test_a_price_is_a_share_of_what_is_left_by_the_days_that_remain(
    now, product_id, days, cost_fen, value_fen, price_fen
):
    listing = market.Listing(
        id="lst_1",
        voucher_id="vch_1",
        order_id="ord_1",
        product_id=product_id,
        face_fen=100_00,
        value_fen=value_fen,
        cost_fen=cost_fen,
        price_fen=None,
        expires_at=now + timedelta(days=days),
        state=ListingState.DRAFT,
        purchase_id=None,
        guarantee_until=None,
    )
    assert automatic_price_fen(listing, STEPS, now=now) == price_fen


async def test_a_price_above_what_is_left_on_the_voucher_is_refused(db: Db, keyring, now):
    (draft,) = await market.take_into_stock(db, [await bought(db, keyring, now=now)], now=now)
    with pytest.raises(market.PriceAboveValue):
        await market.list_vouchers(db, [Price(draft.id, 100_01)], now=now)
    assert [each.price_fen for each in await market.list_vouchers(db, [Price(draft.id, 1)], now=now)] == [1]


async def test_frozen_expired_reserved_and_listed_vouchers_cannot_be_put_up(db: Db, keyring, now):
    (frozen,) = await market.take_into_stock(db, [await bought(db, keyring, now=now)], now=now)
    await freeze(db, [frozen])
    (listed,) = await on_market(db, keyring, now=now)
    _, (held,) = await reserved(db, keyring, now=now)
    for each in (frozen, listed, held):
        with pytest.raises(market.NotListable):
            await market.list_vouchers(db, [Price(each.id, 1)], now=now)
    (old,) = await market.take_into_stock(db, [await bought(db, keyring, now=now, days=1)], now=now)
    with pytest.raises(market.NotListable):
        await market.list_vouchers(db, [Price(old.id, 1)], now=now + timedelta(days=1))


async def test_what_was_taken_down_can_be_put_up_again_at_another_price(db: Db, keyring, now):
    (listing,) = await on_market(db, keyring, now=now)
    (down,) = await market.delist(db, [listing.id], now=now)
    assert down.state is ListingState.DELISTED
    with pytest.raises(market.NotListable):
        await market.delist(db, [listing.id], now=now)
    (again,) = await market.list_vouchers(db, [Price(listing.id, 91_00)], now=now)
    assert (again.state, again.price_fen) == (ListingState.LISTED, 91_00)


async def test_what_is_reserved_cannot_be_taken_down(db: Db, keyring, now):
    _, (held,) = await reserved(db, keyring, now=now)
    with pytest.raises(market.NotListable):
        await market.delist(db, [held.id], now=now)


async def test_frozen_vouchers_leave_the_market_and_drafts_are_not_listed_by_the_table(db: Db, keyring, now):
    (listed,) = await on_market(db, keyring, now=now)
    (draft,) = await market.take_into_stock(db, [await bought(db, keyring, now=now)], now=now)
    await market.withdraw(db, [listed.voucher_id, draft.voucher_id], now=now)
    assert await states(db, [listed, draft]) == ["delisted", "draft"]
    assert await market.list_new_stock(db, now=now) == 0


async def test_expired_vouchers_leave_the_market_on_the_instant(db: Db, keyring, now):
    listings = await on_market(db, keyring, now=now, days=10)
    end = listings[0].expires_at
    assert await market.sweep_expired(db, now=end - timedelta(microseconds=1)) == 0
    assert await market.sweep_expired(db, now=end) == 1
    assert await states(db, listings) == ["expired"]
    with pytest.raises(market.ListingTaken):
        await market.reserve(db, [listings[0].id], buyer_id="cus_1", now=end)


async def test_an_expired_voucher_cannot_be_bought_even_before_it_is_swept(db: Db, keyring, now):
    (listing,) = await on_market(db, keyring, now=now, days=10)
    with pytest.raises(market.ListingTaken):
        await market.reserve(db, [listing.id], buyer_id="cus_1", now=listing.expires_at)


async def test_the_moves_of_the_database_are_those_of_the_rules(db: Db):
    for machine in MACHINES:
        rows = await db.fetch("SELECT from_state, to_state FROM base.move WHERE machine = $1", machine.name)
        ours = {(before, after) for before, afters in machine.moves.items() for after in afters}
        assert {tuple(row) for row in rows} == ours


@pytest.mark.parametrize(
    ("constraint", "states"), [("listing_state", ListingState), ("purchase_state", market.PurchaseState)]
)
async def test_the_states_of_the_database_are_those_of_the_rules(db: Db, constraint, states):
    rule = await db.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
    )
    assert set(rule.split("'")[1::2]) == set(states)


async def test_the_database_itself_refuses_a_price_above_the_value(db: Db, keyring, now):
    (listing,) = await on_market(db, keyring, now=now)
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("UPDATE redistribution.listing SET price_fen = 10001 WHERE id = $1", listing.id)


async def test_a_reserved_voucher_that_was_frozen_comes_back_into_stock(db: Db, keyring, now):
    _, (held,) = await reserved(db, keyring, now=now)
    await freeze(db, [held])
    await vouchers.unreserve(db, [held.voucher_id])
    with pytest.raises(vouchers.CustodyChanged):
        await vouchers.reserve(db, [held.voucher_id])
