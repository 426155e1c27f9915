"""Our stock and what of it is for sale: taken in, priced, put up, taken down, expired."""

from collections.abc import Sequence
from datetime import datetime

from quanhui import evidence, vouchers
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.redistribution import store
from quanhui.redistribution.errors import NotListable, PriceAboveValue
from quanhui.redistribution.rules import (
    LISTING,
    Delivery,
    Listing,
    ListingState,
    Price,
    automatic_price_fen,
)
from quanhui.redistribution.store import queries

BATCH = 500


async def take_into_stock(db: Db, deliveries: Sequence[Delivery], *, now: datetime) -> list[Listing]:
    """Make drafts of vouchers that buyback has secured; returns the new ones.

    A voucher comes in once an order: taking in again changes nothing. What is left on a voucher is read from
    the registry; it stays, because stock cannot be spent.
    """
    arrived = [(delivery.order_id, voucher) for delivery in deliveries for voucher in delivery.vouchers]
    known = await vouchers.find_vouchers(db, sorted({voucher.voucher_id for _, voucher in arrived}))
    rows = await queries.take_in(
        db,
        ids=[new_id("lst") for _ in arrived],
        voucher_ids=[voucher.voucher_id for _, voucher in arrived],
        order_ids=[order_id for order_id, _ in arrived],
        product_ids=[voucher.product_id for _, voucher in arrived],
        face_fen=[voucher.face_fen for _, voucher in arrived],
        value_fen=[known[voucher.voucher_id].available_fen for _, voucher in arrived],
        cost_fen=[voucher.cost_fen for _, voucher in arrived],
        expires_at=[voucher.expires_at for _, voucher in arrived],
        now=now,
    )
    return store.listings_of(rows)


async def list_new_stock(db: Db, *, limit: int = BATCH, now: datetime) -> int:
    """Put new stock up for sale at the price of the table; returns how many listings were looked at.

    What the table does not price, or what is frozen, waits for a person and is not looked at again.
    """
    drafts = store.listings_of(await queries.lock_unpriced(db, limit=limit))
    steps = await store.price_steps(db)
    sound = await _in_stock_and_clear(db, drafts)
    prices = {
        draft.id: price_fen
        for draft in drafts
        if draft.id in sound and (price_fen := automatic_price_fen(draft, steps, now=now)) is not None
    }
    await _put_up(db, [draft for draft in drafts if draft.id in prices], prices, now=now)
    left = [draft.id for draft in drafts if draft.id not in prices]
    if left:
        await queries.leave_to_people(db, ids=left)
    return len(drafts)


async def list_vouchers(db: Db, prices: Sequence[Price], *, now: datetime) -> list[Listing]:
    """Put stock up for sale at the prices given, all or nothing.

    A person may sell below cost, never above what is left. Raises `NotListable` for what is not in stock,
    frozen, expired or already for sale, `PriceAboveValue`.
    """
    price_of = {price.listing_id: price.price_fen for price in prices}
    listings = await store.lock_listings(db, sorted(price_of))
    sound = await _in_stock_and_clear(db, listings)
    unsold = (ListingState.DRAFT, ListingState.DELISTED)
    fit = {
        each.id for each in listings if each.state in unsold and each.id in sound and each.expires_at > now
    }
    if fit != set(price_of):
        raise NotListable(listings=sorted(set(price_of) - fit))
    too_dear = [each.id for each in listings if price_of[each.id] > each.value_fen]
    if too_dear:
        raise PriceAboveValue(listings=too_dear)
    await _put_up(db, listings, price_of, now=now)
    return await find_listings(db, sorted(price_of))


async def delist(db: Db, listing_ids: Sequence[str], *, now: datetime) -> list[Listing]:
    """Take listings off the market, all or nothing. Raises `NotListable` for what is not for sale."""
    listings = await store.lock_listings(db, sorted(listing_ids))
    fit = {each.id for each in listings if LISTING.may(each.state, ListingState.DELISTED)}
    if fit != set(listing_ids):
        raise NotListable(listings=sorted(set(listing_ids) - fit))
    await _take_down(db, listings, now=now)
    return await find_listings(db, sorted(listing_ids))


async def withdraw(db: Db, voucher_ids: Sequence[str], *, now: datetime) -> None:
    """Take vouchers off the market that may not be sold any more, for example frozen ones.

    What is reserved or sold stays: the payment decides about it.
    """
    rows = await queries.lock_listings_of_vouchers(db, voucher_ids=sorted(voucher_ids))
    listings = store.listings_of(rows)
    drafts = [each.id for each in listings if each.state is ListingState.DRAFT]
    if drafts:
        await queries.leave_to_people(db, ids=drafts)
    await _take_down(db, [each for each in listings if each.state is ListingState.LISTED], now=now)


async def sweep_expired(db: Db, *, limit: int = BATCH, now: datetime) -> int:
    """Take expired vouchers off the market and close sales that nobody looked at; returns how many."""
    listings = store.listings_of(await queries.expire(db, limit=limit, now=now))
    unsold = [each for each in listings if each.state is ListingState.EXPIRED]
    await _record(db, "expired_in_stock", unsold, now=now)
    return len(listings)


async def find_listings(db: Db, listing_ids: Sequence[str]) -> list[Listing]:
    """Listings by id, in the order of their ids; unknown ones are absent."""
    return store.listings_of(await queries.find_listings(db, ids=list(listing_ids)))


async def _in_stock_and_clear(db: Db, listings: Sequence[Listing]) -> set[str]:
    known = await vouchers.find_vouchers(db, sorted({each.voucher_id for each in listings}))
    return {
        each.id
        for each in listings
        if (voucher := known.get(each.voucher_id)) is not None
        and voucher.custody is vouchers.Custody.PLATFORM_HELD
        and voucher.integrity is vouchers.Integrity.CLEAR
    }


async def _put_up(db: Db, listings: Sequence[Listing], price_of: dict[str, int], *, now: datetime) -> None:
    if not listings:
        return
    await queries.put_up(
        db, ids=[each.id for each in listings], prices_fen=[price_of[each.id] for each in listings]
    )
    await evidence.record(
        db,
        [
            evidence.Event(each.voucher_id, "listed", each.id, {"price_fen": price_of[each.id]})
            for each in listings
        ],
        now=now,
    )


async def _take_down(db: Db, listings: Sequence[Listing], *, now: datetime) -> None:
    if listings:
        await queries.take_down(db, ids=[each.id for each in listings])
        await _record(db, "delisted", listings, now=now)


async def _record(db: Db, kind: str, listings: Sequence[Listing], *, now: datetime) -> None:
    if listings:
        events = [evidence.Event(each.voucher_id, kind, each.id) for each in listings]
        await evidence.record(db, events, now=now)
