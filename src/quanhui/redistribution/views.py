"""What people send and what they see of listings and purchases."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from quanhui import vouchers
from quanhui.base.db import Db
from quanhui.base.money import Dealing
from quanhui.catalogue import Catalogue
from quanhui.redistribution import store
from quanhui.redistribution.rules import (
    MOST_LISTINGS,
    Decision,
    Listing,
    ListingState,
    Purchase,
    PurchaseState,
)

MASK = "••••"

Id = Annotated[str, Meta(max_length=64, examples=["lst_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
Fen = Annotated[int, Meta(ge=1, le=100_000_000)]


class OfferView(Struct, frozen=True, kw_only=True):
    """A voucher for sale 挂售. Money in fen; of the code only the last characters show."""

    id: Annotated[str, Meta(examples=["lst_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
    product_id: str
    product_zh: str
    product_en: str
    category: str
    face_fen: int
    value_fen: Annotated[int, Meta(description="What is left on the voucher.", examples=[10_000])]
    price_fen: Annotated[int, Meta(examples=[9_500])]
    masked_code: Annotated[str, Meta(examples=["••••7K2M"])]
    expires_at: datetime


class StockView(Struct, frozen=True, kw_only=True):
    """A voucher of our stock 库存券, with what it cost."""

    id: str
    voucher_id: str
    order_id: str
    product_id: str
    face_fen: int
    value_fen: int
    cost_fen: int
    price_fen: int | None
    expires_at: datetime
    state: ListingState
    purchase_id: str | None
    guarantee_until: datetime | None


class ItemView(Struct, frozen=True, kw_only=True):
    """One voucher of a purchase. `state` is null when it did not become the buyer's."""

    listing_id: str
    product_id: str
    product_zh: str
    product_en: str
    face_fen: int
    value_fen: int
    price_fen: int
    expires_at: datetime
    state: ListingState | None
    guarantee_until: datetime | None


class PurchaseView(Struct, frozen=True, kw_only=True):
    """A purchase 购买. Pay `total_fen` to the institution under `payment_no` before `reserved_until`.

    `payment_no` is null until the institution has opened the payment. `closing`: it was cancelled or has
    lapsed, and is closed as soon as the institution agrees.
    """

    id: Annotated[str, Meta(examples=["pur_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
    state: PurchaseState
    reason: str | None
    dealing: Dealing
    total_fen: int
    out_no: Annotated[str, Meta(description="Our number for the payment.")]
    payment_no: str | None
    reserved_until: datetime
    closing: bool
    paid_at: datetime | None
    created_at: datetime
    items: list[ItemView]


class CodeView(Struct, frozen=True):
    """A code in the clear, for the buyer alone."""

    listing_id: str
    code: str

    def __repr__(self) -> str:
        return f"CodeView(listing_id={self.listing_id!r})"


class DisputeView(Struct, frozen=True, kw_only=True):
    """A complaint 售后 that waits for a decision."""

    listing_id: str
    purchase_id: str
    price_fen: int
    reason: str
    opened_by: str
    opened_at: datetime


class PurchaseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What to buy together, all or nothing."""

    listing_ids: Annotated[
        list[Id],
        Meta(min_length=1, max_length=MOST_LISTINGS, examples=[["lst_01kaqtj3v8f6rr3y1n5w9e2mzc"]]),
    ]


class RevealBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which codes to show; all of the purchase unless named."""

    listing_ids: (
        Annotated[
            list[Id],
            Meta(min_length=1, max_length=MOST_LISTINGS, examples=[["lst_01kaqtj3v8f6rr3y1n5w9e2mzc"]]),
        ]
        | None
    ) = None


class DisputeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with which vouchers of the purchase."""

    listing_ids: Annotated[
        list[Id],
        Meta(min_length=1, max_length=MOST_LISTINGS, examples=[["lst_01kaqtj3v8f6rr3y1n5w9e2mzc"]]),
    ]
    reason: Annotated[str, Meta(min_length=1, max_length=500, examples=["收银台提示余额不足。"])]


class DecisionBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Money back, or the sale upheld, and why."""

    decision: Decision
    note: Annotated[str, Meta(min_length=1, max_length=500, examples=["发行方确认余额已被使用。"])]


class PriceBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One listing and its price in fen."""

    listing_id: Id
    price_fen: Annotated[Fen, Meta(examples=[9_500])]


class ListBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Stock to put up for sale, all or nothing."""

    prices: Annotated[list[PriceBody], Meta(min_length=1, max_length=500)]


async def offer_views(db: Db, listings: Sequence[Listing], catalogue: Catalogue) -> list[OfferView]:
    """What a buyer sees of listings for sale, in their order. One query."""
    known = await vouchers.find_vouchers(db, [each.voucher_id for each in listings])
    views = []
    for each in listings:
        product = catalogue.products[each.product_id]
        assert each.price_fen is not None, "what is for sale has a price"
        view = OfferView(
            id=each.id,
            product_id=product.id,
            product_zh=product.zh,
            product_en=product.en,
            category=product.category,
            face_fen=each.face_fen,
            value_fen=each.value_fen,
            price_fen=each.price_fen,
            masked_code=MASK + known[each.voucher_id].tail,
            expires_at=each.expires_at,
        )
        views.append(view)
    return views


def stock_view(listing: Listing) -> StockView:
    """What operations see of a listing."""
    return StockView(**{name: getattr(listing, name) for name in StockView.__struct_fields__})


async def purchase_views(db: Db, purchases: Sequence[Purchase], catalogue: Catalogue) -> list[PurchaseView]:
    """What a buyer sees of purchases, in their order. One query."""
    items: dict[str, list[ItemView]] = {purchase.id: [] for purchase in purchases}
    for item in await store.items_of(db, list(items)):
        items[item.purchase_id].append(_item_view(item, catalogue))
    return [
        PurchaseView(
            id=purchase.id,
            state=purchase.state,
            reason=purchase.reason,
            dealing=purchase.dealing,
            total_fen=purchase.total_fen,
            out_no=purchase.out_no,
            payment_no=purchase.payment_no,
            reserved_until=purchase.reserved_until,
            closing=purchase.state is PurchaseState.PENDING_PAYMENT and purchase.closing_at is not None,
            paid_at=purchase.paid_at,
            created_at=purchase.created_at,
            items=items[purchase.id],
        )
        for purchase in purchases
    ]


def _item_view(item: store.Item, catalogue: Catalogue) -> ItemView:
    product = catalogue.products[item.product_id]
    return ItemView(
        listing_id=item.listing_id,
        product_id=product.id,
        product_zh=product.zh,
        product_en=product.en,
        face_fen=item.face_fen,
        value_fen=item.value_fen,
        price_fen=item.price_fen,
        expires_at=item.expires_at,
        state=item.state,
        guarantee_until=item.guarantee_until,
    )
