"""The market over HTTP: look, buy, see the codes, complain; and the stock, for those who run it."""

from enum import StrEnum
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter, SkipValidation
from msgspec import Struct

from quanhui.base.access import Actor, Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import MalformedRequest, NotFound
from quanhui.base.keyring import Keyring
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.catalogue import Catalogue, CatalogueCache, Product, covers
from quanhui.redistribution import store
from quanhui.redistribution.disputes import decide_dispute, open_dispute
from quanhui.redistribution.purchases import cancel, find_purchases, reserve, reveal
from quanhui.redistribution.rules import ListingState, Price, PurchaseState
from quanhui.redistribution.stock import delist, find_listings, list_vouchers
from quanhui.redistribution.views import (
    CodeView,
    DecisionBody,
    DisputeBody,
    DisputeView,
    ListBody,
    OfferView,
    PurchaseBody,
    PurchaseView,
    RevealBody,
    StockView,
    offer_views,
    purchase_views,
    stock_view,
)

READ = needs("market.read", Scope.ALL)
BUY = needs("market.buy", Scope.OWN, Scope.ENTERPRISE)
REVEAL = needs("market.reveal", Scope.OWN, Scope.ENTERPRISE)
STOCK = needs("market.list", Scope.ALL)

LONGEST_PRICE = 12

PathId = Annotated[str, PathParameter(max_length=64, description="Id.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
Cursor = Annotated[str | None, QueryParameter(max_length=80, description="`next_cursor` of the page before.")]
InState = QueryParameter(name="state", description="Only those in this state.")
PriceBound = Annotated[
    int | None, QueryParameter(ge=0, le=100_000_000, description="A price in fen, inclusive.")
]


class Sort(StrEnum):
    """The order of the market."""

    NEWEST = "newest"
    PRICE = "price"


class Filters(Struct, frozen=True, kw_only=True):
    """What narrows the market; each is optional."""

    category: str | None
    product: str | None
    region: str | None
    text: str | None
    min_fen: int | None
    max_fen: int | None


def read_filters(
    category: Annotated[str | None, QueryParameter(max_length=40, description="Category code.")] = None,
    product: Annotated[str | None, QueryParameter(max_length=64, description="Product id.")] = None,
    region: Annotated[
        str | None, QueryParameter(pattern="^[1-9][0-9]{5}$", description="GB/T 2260 code: good there.")
    ] = None,
    text: Annotated[
        str | None, QueryParameter(max_length=100, description="Part of a product's name.")
    ] = None,
    min_fen: PriceBound = None,
    max_fen: PriceBound = None,
) -> Filters:
    """The filters of the query string."""
    return Filters(
        category=category, product=product, region=region, text=text, min_fen=min_fen, max_fen=max_fen
    )


@get(
    "/market/listings",
    opt=READ,
    dependencies={"filters": Provide(read_filters, sync_to_thread=False)},
    operation_id="list_market",
    tags=["market"],
)
async def list_market(
    call: NamedDependency[Call],
    catalogues: NamedDependency[CatalogueCache],
    filters: NamedDependency[SkipValidation[Filters]],
    sort: Annotated[Sort, QueryParameter(description="Newest or cheapest first.")] = Sort.NEWEST,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[OfferView]]:
    """See what is for sale 挂售列表

    Newest or cheapest first; every filter narrows the list. A cursor belongs to the order that gave it.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    wanted = {
        "product_ids": _products(catalogue, filters),
        "min_fen": filters.min_fen,
        "max_fen": filters.max_fen,
        "limit": limit + 1,
        "now": call.now,
    }

    async def read(db: Db) -> Page[OfferView]:
        if sort is Sort.NEWEST:
            rows = await store.queries.newest_listed(db, before=cursor, **wanted)
        else:
            after_fen, after_id = _after(cursor)
            rows = await store.queries.cheapest_listed(db, after_fen=after_fen, after_id=after_id, **wanted)
        cursor_of = "id" if sort is Sort.NEWEST else "price_cursor"
        page = page_of(store.listings_of(rows), limit=limit, cursor_of=cursor_of)
        return Page(await offer_views(db, page.items, catalogue), page.next_cursor)

    return Response(await call.query(read))


@get("/market/listings/{listing_id:str}", opt=READ, operation_id="get_listing", tags=["market"])
async def get_listing(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], listing_id: PathId
) -> Response[OfferView]:
    """Show a voucher for sale 挂售详情

    What is reserved, sold or taken down is not found.
    """
    catalogue = await catalogues.get(call.pool, call.now)

    async def read(db: Db) -> OfferView:
        listings = await find_listings(db, [listing_id])
        on_sale = [e for e in listings if e.state is ListingState.LISTED and e.expires_at > call.now]
        if not on_sale:
            raise NotFound
        return (await offer_views(db, on_sale, catalogue))[0]

    return Response(await call.query(read))


@post("/market/purchases", opt=BUY, status_code=201, operation_id="buy_vouchers", tags=["market"])
async def buy(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], data: JSONBody[PurchaseBody]
) -> Response[PurchaseView]:
    """Buy vouchers 购买

    They are set aside while you pay. All or nothing: refused with `listing-taken` when one is not for sale
    any more. Payment is in money, at the institution; stored value and vouchers cannot buy vouchers. Poll
    the purchase for its `payment_no`.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    buyer_id = _buyer(call.actor, "market.buy")

    async def verb(db: Db) -> PurchaseView:
        purchase = await reserve(db, data.listing_ids, buyer_id=buyer_id, now=call.now)
        return (await purchase_views(db, [purchase], catalogue))[0]

    return await call.command(verb, status=201)


@get("/market/purchases", opt=BUY, operation_id="list_purchases", tags=["market"])
async def list_purchases(
    call: NamedDependency[Call],
    catalogues: NamedDependency[CatalogueCache],
    in_state: Annotated[PurchaseState | None, InState] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[PurchaseView]]:
    """See your purchases 购买记录

    Newest first.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    buyer_id = _buyer(call.actor, "market.buy")

    async def read(db: Db) -> Page[PurchaseView]:
        rows = await store.queries.list_purchases(
            db, buyer_id=buyer_id, state=in_state, before=cursor, limit=limit + 1
        )
        page = page_of(store.purchases_of(rows), limit=limit)
        return Page(await purchase_views(db, page.items, catalogue), page.next_cursor)

    return Response(await call.query(read))


@get("/market/purchases/{purchase_id:str}", opt=BUY, operation_id="get_purchase", tags=["market"])
async def get_purchase(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], purchase_id: PathId
) -> Response[PurchaseView]:
    """Show a purchase 购买详情

    With what was bought and how to pay for it.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    buyer_id = _buyer(call.actor, "market.buy")

    async def read(db: Db) -> PurchaseView:
        found = await find_purchases(db, [purchase_id])
        if not found or found[0].buyer_id != buyer_id:
            raise NotFound
        return (await purchase_views(db, found, catalogue))[0]

    return Response(await call.query(read))


@post(
    "/market/purchases/{purchase_id:str}/cancel",
    opt=BUY,
    status_code=200,
    operation_id="cancel_purchase",
    tags=["market"],
)
async def cancel_purchase(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], purchase_id: PathId
) -> Response[PurchaseView]:
    """Cancel an unpaid purchase 取消购买

    It is closed once the institution has closed the payment; money that was quicker is either a sale or
    given back.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    buyer_id = _buyer(call.actor, "market.buy")

    async def verb(db: Db) -> PurchaseView:
        purchase = await cancel(db, purchase_id, buyer_id=buyer_id, now=call.now)
        return (await purchase_views(db, [purchase], catalogue))[0]

    return await call.command(verb)


@post(
    "/market/purchases/{purchase_id:str}/reveal",
    opt=REVEAL,
    status_code=200,
    operation_id="reveal_codes",
    tags=["market"],
)
async def reveal_codes(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    purchase_id: PathId,
    data: JSONBody[RevealBody],
) -> Response[list[CodeView]]:
    """Show the codes you bought 揭码

    Only once the payment is final, only to the buyer, and each time on record. The first time starts the
    guarantee period 担保期. The answer is not kept: asking again with the same key shows the codes again.
    """
    buyer_id = _buyer(call.actor, "market.reveal")

    async def verb(db: Db) -> list[CodeView]:
        codes = await reveal(
            db,
            keyring,
            purchase_id,
            buyer_id=buyer_id,
            actor_id=call.actor.id,
            listing_ids=data.listing_ids,
            now=call.now,
        )
        return [CodeView(listing_id, code) for listing_id, code in codes.items()]

    return await call.command(verb, keep_answer=False)


@post(
    "/market/purchases/{purchase_id:str}/disputes",
    opt=REVEAL,
    status_code=201,
    operation_id="dispute_purchase",
    tags=["market"],
)
async def dispute_purchase(
    call: NamedDependency[Call],
    catalogues: NamedDependency[CatalogueCache],
    purchase_id: PathId,
    data: JSONBody[DisputeBody],
) -> Response[PurchaseView]:
    """Complain about vouchers you bought 申请售后

    Within the guarantee period, once a voucher. They are frozen until someone has decided.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    buyer_id = _buyer(call.actor, "market.reveal")

    async def verb(db: Db) -> PurchaseView:
        await open_dispute(
            db,
            purchase_id,
            data.listing_ids,
            buyer_id=buyer_id,
            actor_id=call.actor.id,
            reason=data.reason,
            now=call.now,
        )
        return (await purchase_views(db, await find_purchases(db, [purchase_id]), catalogue))[0]

    return await call.command(verb, status=201)


@get("/market/stock", opt=STOCK, operation_id="list_stock", tags=["market"])
async def list_stock(
    call: NamedDependency[Call],
    in_state: Annotated[ListingState | None, InState] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[StockView]]:
    """See our stock 库存

    Newest first, with what each voucher cost; sold ones stay on record.
    """
    rows = await call.query(
        lambda db: store.queries.stock(db, state=in_state, before=cursor, limit=limit + 1)
    )
    return Response(page_of([stock_view(each) for each in store.listings_of(rows)], limit=limit))


@post("/market/listings", opt=STOCK, status_code=201, operation_id="list_vouchers", tags=["market"])
async def put_up(call: NamedDependency[Call], data: JSONBody[ListBody]) -> Response[list[StockView]]:
    """Put stock up for sale 上架

    All or nothing, at the prices given: never above what is left on a voucher.
    """
    prices = [Price(each.listing_id, each.price_fen) for each in data.prices]

    async def verb(db: Db) -> list[StockView]:
        return [stock_view(each) for each in await list_vouchers(db, prices, now=call.now)]

    return await call.command(verb, status=201)


@post(
    "/market/listings/{listing_id:str}/delist",
    opt=STOCK,
    status_code=200,
    operation_id="delist_voucher",
    tags=["market"],
)
async def take_down(call: NamedDependency[Call], listing_id: PathId) -> Response[StockView]:
    """Take a voucher off the market 下架

    It stays in stock and may be put up again at another price.
    """

    async def verb(db: Db) -> StockView:
        return stock_view((await delist(db, [listing_id], now=call.now))[0])

    return await call.command(verb)


@get("/market/disputes", opt=STOCK, operation_id="list_disputes", tags=["market"])
async def list_disputes(
    call: NamedDependency[Call], cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Response[Page[DisputeView]]:
    """See open complaints 待处理售后

    Newest listing first.
    """
    rows = await call.query(lambda db: store.queries.list_disputes(db, before=cursor, limit=limit + 1))
    return Response(page_of([DisputeView(**row) for row in rows], limit=limit, cursor_of="listing_id"))


@post(
    "/market/disputes/{listing_id:str}/decision",
    opt=STOCK,
    status_code=200,
    operation_id="decide_dispute",
    tags=["market"],
)
async def decide(
    call: NamedDependency[Call], listing_id: PathId, data: JSONBody[DecisionBody]
) -> Response[StockView]:
    """Decide on a complaint 处理售后

    `refunded` gives the money back and voids the voucher; `upheld` releases it to the buyer.
    """

    async def verb(db: Db) -> StockView:
        listing = await decide_dispute(
            db, listing_id, data.decision, actor_id=call.actor.id, note=data.note, now=call.now
        )
        return stock_view(listing)

    return await call.command(verb)


def _buyer(actor: Actor, permission: str) -> str:
    """For whom an actor buys: for themselves, or for the enterprise they act for."""
    if actor.reach(permission) is Scope.ENTERPRISE:
        assert actor.enterprise_id is not None, "grants of this scope need an enterprise"
        return actor.enterprise_id
    return actor.id


def _after(cursor: str | None) -> tuple[int, str]:
    """Where a page by price begins. Raises `MalformedRequest` for a cursor of another order."""
    if cursor is None:
        return 0, ""
    price_fen, _, listing_id = cursor.partition(".")
    if not (price_fen.isascii() and price_fen.isdecimal() and len(price_fen) <= LONGEST_PRICE and listing_id):
        raise MalformedRequest(field="cursor")
    return int(price_fen), listing_id


def _products(catalogue: Catalogue, filters: Filters) -> list[str] | None:
    """The products that the filters leave, or None where there is no filter on products."""
    if not (filters.category or filters.product or filters.region or filters.text):
        return None
    found = catalogue.find(category=filters.category, text=filters.text, limit=len(catalogue.products))
    return [
        each.id
        for each in found
        if filters.product in (None, each.id) and (filters.region is None or _good_in(each, filters.region))
    ]


def _good_in(product: Product, region: str) -> bool:
    """Whether a product is good somewhere in a region: in all of it, or in a part of it."""
    codes = product.region_codes
    return not codes or any(covers(code, region) or covers(region, code) for code in codes)


handlers: list[HTTPRouteHandler] = [
    list_market,
    get_listing,
    buy,
    list_purchases,
    get_purchase,
    cancel_purchase,
    reveal_codes,
    dispute_purchase,
    list_stock,
    put_up,
    take_down,
    list_disputes,
    decide,
]
