"""Rows of redistribution to types and back. The SQL stands in `queries.sql`."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.money import Dealing
from quanhui.redistribution.rules import Listing, ListingState, PriceStep, Purchase, PurchaseState, Refund

queries = load_queries(__file__)


def listing_of(row: Row) -> Listing:
    """A row of `redistribution.listing`."""
    return Listing(
        id=row["id"],
        voucher_id=row["voucher_id"],
        order_id=row["order_id"],
        product_id=row["product_id"],
        face_fen=row["face_fen"],
        value_fen=row["value_fen"],
        cost_fen=row["cost_fen"],
        price_fen=row["price_fen"],
        expires_at=row["expires_at"],
        state=ListingState(row["state"]),
        purchase_id=row["purchase_id"],
        guarantee_until=row["guarantee_until"],
    )


def listings_of(rows: Iterable[Row]) -> list[Listing]:
    """Rows of `redistribution.listing`, in their order."""
    return [listing_of(row) for row in rows]


def purchases_of(rows: Iterable[Row]) -> list[Purchase]:
    """Rows of `redistribution.purchase`, in their order."""
    return [
        Purchase(**{**row, "state": PurchaseState(row["state"]), "dealing": Dealing(row["dealing"])})
        for row in rows
    ]


def refunds_of(rows: Iterable[Row]) -> list[Refund]:
    """Rows of `redistribution.refund`, in their order."""
    return [Refund(**row) for row in rows]


async def price_steps(db: Db) -> list[PriceStep]:
    return [PriceStep(**row) for row in await queries.price_steps(db)]


async def lock_listings(db: Db, ids: Sequence[str]) -> list[Listing]:
    return listings_of(await queries.lock_listings(db, ids=list(ids)))


async def lock_purchases(db: Db, ids: Sequence[str]) -> list[Purchase]:
    return purchases_of(await queries.lock_purchases(db, ids=list(ids)))


async def add_refunds(db: Db, refunds: Sequence[Refund], *, now: datetime) -> None:
    await queries.add_refunds(
        db,
        ids=[refund.id for refund in refunds],
        purchase_ids=[refund.purchase_id for refund in refunds],
        listing_ids=[refund.listing_id for refund in refunds],
        amounts_fen=[refund.amount_fen for refund in refunds],
        reasons=[refund.reason for refund in refunds],
        now=now,
    )


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One listing as a purchase asked for it; `state` is None when it is not this purchase's any more."""

    purchase_id: str
    listing_id: str
    voucher_id: str
    product_id: str
    face_fen: int
    value_fen: int
    price_fen: int
    expires_at: datetime
    guarantee_until: datetime | None
    state: ListingState | None


async def items_of(db: Db, purchase_ids: Sequence[str]) -> list[Item]:
    rows = await queries.items_of(db, purchase_ids=list(purchase_ids))
    return [Item(**{**row, "state": row["state"] and ListingState(row["state"])}) for row in rows]
