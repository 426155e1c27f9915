"""Redemption over HTTP, for tills, merchants and holders. A code travels in a body only, never in a URL."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui import places
from quanhui.base.access import Actor, ActorKind, Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import MalformedRequest, NotFound
from quanhui.base.http import NoAnswer
from quanhui.base.keyring import Keyring
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.catalogue import CatalogueCache, Connectors
from quanhui.redemption import store
from quanhui.redemption.actions import Presented, check, find_redemptions, redeem, resume
from quanhui.redemption.errors import VoucherNotUsable
from quanhui.redemption.merchants.routes import handlers as statement_handlers
from quanhui.redemption.recognition import may_be_outside
from quanhui.redemption.reversals import reversals_of, reverse
from quanhui.redemption.rules import Redemption, Reversal, ReversalState, State, Till
from quanhui.redemption.tasks import ask_issuers, keep_refusal

REDEEM = needs("redemption.redeem", Scope.STORE, Scope.MERCHANT)
REVERSE = needs("redemption.reverse", Scope.STORE, Scope.MERCHANT)
READ = needs("redemption.read", Scope.OWN, Scope.ENTERPRISE, Scope.STORE, Scope.MERCHANT, Scope.ALL)

Code = Annotated[
    str,
    Meta(
        min_length=1, max_length=128, description="As printed or scanned.", examples=["RJ50 7K2M 9QX4 T3WB"]
    ),
]
Fen = Annotated[int, Meta(ge=1, le=100_000_000)]
StoreId = Annotated[str, Meta(max_length=64, description="For merchants; a clerk's store is known.")]
PathId = Annotated[str, PathParameter(max_length=64, description="Id.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
Cursor = Annotated[str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")]


class CheckBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The code to look at."""

    code: Code
    store_id: StoreId | None = None

    def __repr__(self) -> str:
        return f"CheckBody(store_id={self.store_id!r})"


class RedeemBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The code to spend. Without an amount, all that is left."""

    code: Code
    amount_fen: Annotated[Fen, Meta(examples=[3_500])] | None = None
    till_reference: (
        Annotated[str, Meta(min_length=1, max_length=64, description="The till's number, once a sale.")]
        | None
    ) = None
    store_id: StoreId | None = None

    def __repr__(self) -> str:
        return f"RedeemBody(amount_fen={self.amount_fen!r}, till_reference={self.till_reference!r})"


class ReverseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How much to give back, all that is left to reverse unless named, and why."""

    reason: Annotated[str, Meta(min_length=1, max_length=200, examples=["顾客退货"])]
    amount_fen: Fen | None = None


class BalanceView(Struct, frozen=True, kw_only=True):
    """What a voucher is worth at this till. Money in fen."""

    product_id: str
    product_zh: str
    product_en: str
    masked_code: Annotated[str, Meta(examples=["••••T3WB"])]
    available_fen: int
    multi_draw: Annotated[bool, Meta(description="Whether it may be spent in parts.")]
    expires_at: datetime


class ReversalView(Struct, frozen=True, kw_only=True):
    """A reversal 冲正. `asked`: the issuer has to agree first."""

    id: str
    redemption_id: str
    amount_fen: int
    reason: str
    state: ReversalState
    created_at: datetime
    done_at: datetime | None


class RedemptionView(Struct, frozen=True, kw_only=True):
    """A redemption 核销. Money in fen. `operator_id` is null for the holder of the voucher.

    While `awaits_issuer` the issuer's answer is missing: ask for the redemption again, do not redeem anew.
    """

    id: Annotated[str, Meta(examples=["rdm_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
    voucher_id: str
    product_id: str
    store_id: str
    merchant_id: str
    operator_id: str | None
    till_reference: str | None
    state: State
    awaits_issuer: bool
    authorised_fen: int
    captured_fen: int
    reversed_fen: int
    created_at: datetime
    captured_at: datetime | None
    settled_at: datetime | None


class RedemptionDetail(RedemptionView, frozen=True, kw_only=True):
    """A redemption and what was taken back of it, oldest first."""

    reversals: list[ReversalView]


@post("/redemptions/check", opt=REDEEM, status_code=200, operation_id="check_voucher", tags=["redemption"])
async def check_voucher(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    catalogues: NamedDependency[CatalogueCache],
    data: JSONBody[CheckBody],
) -> Response[BalanceView]:
    """Look at a voucher 查券

    What it is worth in this store; changes nothing. Refused as redeeming is, under the same limits.
    """
    catalogue = await catalogues.get(call.pool, call.now)

    async def read(db: Db) -> BalanceView:
        till = await _till(db, call.actor, data.store_id)
        usable = await check(db, keyring, catalogue, data.code, till, now=call.now)
        return BalanceView(
            product_id=usable.product.id,
            product_zh=usable.product.zh,
            product_en=usable.product.en,
            masked_code=f"••••{usable.voucher.tail}",
            available_fen=usable.voucher.available_fen,
            multi_draw=usable.product.multi_draw,
            expires_at=usable.voucher.expires_at,
        )

    try:
        return Response(await call.query(read))
    except VoucherNotUsable as refused:
        await keep_refusal(call.pool, refused, now=call.now)
        raise


@post("/redemptions", opt=REDEEM, status_code=201, operation_id="redeem_voucher", tags=["redemption"])
async def redeem_voucher(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    catalogues: NamedDependency[CatalogueCache],
    connectors: NamedDependency[Connectors],
    data: JSONBody[RedeemBody],
) -> Response[RedemptionView]:
    """Redeem a voucher 核销

    Whatever is wrong with a code, the refusal is `voucher-not-usable`. The answer is 201 when it is done, and
    202 when the voucher's issuer has not answered yet: then repeat with the same key, or ask for the
    redemption; the amount is drawn at most once.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    outside = may_be_outside(catalogue, data.code)
    shown = Presented(
        code=data.code,
        amount_fen=data.amount_fen,
        request_key=call.require_key(),
        till_reference=data.till_reference,
    )
    begun: list[Redemption] = []

    async def begin(db: Db) -> RedemptionView:
        till = await _till(db, call.actor, data.store_id)
        redemption = await resume(db, till, shown.request_key) if outside else None
        if redemption is None:
            redemption = await redeem(db, keyring, catalogue, shown, till, now=call.now)
        begun[:] = [redemption]
        return _view(redemption, call.actor)

    try:
        answer = await call.command(begin, status=201, keep_answer=not outside)
    except VoucherNotUsable as refused:
        await keep_refusal(call.pool, refused, now=call.now)
        raise
    if not (outside and begun):
        return answer
    # A silent issuer is no failure: the redemption waits, and the sweep has the issuer asked again.
    with suppress(NoAnswer):
        await ask_issuers(call.pool, keyring, connectors, [begun[0].id], now=call.now)
    return await _answer(call, begun[0].id)


@post(
    "/redemptions/{redemption_id:str}/reversals",
    opt=REVERSE,
    status_code=201,
    operation_id="reverse_redemption",
    tags=["redemption"],
)
async def reverse_redemption(
    call: NamedDependency[Call], redemption_id: PathId, data: JSONBody[ReverseBody]
) -> Response[ReversalView]:
    """Reverse a redemption 冲正

    Gives back at most what was captured, to the same voucher. After the merchant was paid, its next statement
    bears it. An outside issuer is asked first, once a redemption: the reversal is then `asked`, soon `done`.
    """

    async def verb(db: Db) -> ReversalView:
        await _visible(db, call.actor, "redemption.reverse", redemption_id)
        reversal = await reverse(
            db,
            redemption_id,
            amount_fen=data.amount_fen,
            reason=data.reason,
            operator_id=call.actor.id,
            now=call.now,
        )
        return _reversal_view(reversal)

    return await call.command(verb, status=201)


@get("/redemptions", opt=READ, operation_id="list_redemptions", tags=["redemption"])
async def list_redemptions(
    call: NamedDependency[Call],
    store_id: Annotated[
        str | None, QueryParameter(name="store", max_length=64, description="Store id.")
    ] = None,
    redemption_state: Annotated[
        State | None, QueryParameter(name="state", description="Only those in this state.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[RedemptionView]]:
    """See redemptions 核销记录

    Newest first: of your vouchers, your store, your merchant, or all, as your role reaches.
    """
    reach = _reach(call.actor, "redemption.read")
    if store_id is not None and reach.get("store_id") not in (None, store_id):
        raise NotFound
    filters = {"holder_id": None, "merchant_id": None, "store_id": store_id} | reach

    async def read(db: Db) -> list[Redemption]:
        rows = await store.queries.list_redemptions(
            db, **filters, state=redemption_state, before=cursor, limit=limit + 1
        )
        return [store.redemption_of(row) for row in rows]

    found = await call.query(read)
    return Response(page_of([_view(each, call.actor) for each in found], limit=limit))


@get("/redemptions/{redemption_id:str}", opt=READ, operation_id="get_redemption", tags=["redemption"])
async def get_redemption(call: NamedDependency[Call], redemption_id: PathId) -> Response[RedemptionDetail]:
    """Show a redemption 核销详情

    With what was taken back of it.
    """

    async def read(db: Db) -> RedemptionDetail:
        redemption = await _visible(db, call.actor, "redemption.read", redemption_id)
        reversals = [_reversal_view(each) for each in await reversals_of(db, [redemption_id])]
        return RedemptionDetail(**_shown(redemption, call.actor), reversals=reversals)

    return Response(await call.query(read))


async def _answer(call: Call, redemption_id: str) -> Response[RedemptionView]:
    """The answer about a redemption at an outside issuer, kept once its end is known."""
    (redemption,) = await call.query(lambda db: find_redemptions(db, [redemption_id]))
    if redemption.state in (State.VOIDED, State.LAPSED):
        raise VoucherNotUsable
    view = _view(redemption, call.actor)

    async def tell(_db: Db) -> RedemptionView:
        return view

    waiting = redemption.awaits_issuer
    return await call.command(tell, status=202 if waiting else 201, keep_answer=not waiting)


async def _till(db: Db, actor: Actor, store_id: str | None) -> Till:
    """Where the actor stands: their own store, or the one that a merchant names among its own."""
    merchant_wide = actor.reach("redemption.redeem") is Scope.MERCHANT
    wanted = store_id if merchant_wide else actor.store_id
    if wanted is None:
        raise MalformedRequest(field="store_id")
    found = await places.get_stores(db, [wanted])
    if not found or (merchant_wide and found[0].merchant_id != actor.merchant_id):
        raise NotFound
    if not merchant_wide and store_id not in (None, actor.store_id):
        raise NotFound
    return Till(
        store_id=found[0].id,
        merchant_id=found[0].merchant_id,
        region_code=found[0].region_code,
        operator_id=actor.id,
    )


def _reach(actor: Actor, permission: str) -> dict[str, str | None]:
    """The column and value that a reader's scope narrows redemptions to."""
    match actor.reach(permission):
        case Scope.ALL:
            return {}
        case Scope.MERCHANT:
            return {"merchant_id": actor.merchant_id}
        case Scope.STORE:
            return {"store_id": actor.store_id}
        case Scope.ENTERPRISE:
            return {"holder_id": actor.enterprise_id}
        case _:
            return {"holder_id": actor.id}


async def _visible(db: Db, actor: Actor, permission: str, redemption_id: str) -> Redemption:
    """A redemption that the actor's scope reaches. Raises `NotFound`."""
    found = await find_redemptions(db, [redemption_id])
    reach = _reach(actor, permission)
    if not found or any(getattr(found[0], column) != value for column, value in reach.items()):
        raise NotFound
    return found[0]


def _view(redemption: Redemption, actor: Actor) -> RedemptionView:
    return RedemptionView(**_shown(redemption, actor))


def _shown(redemption: Redemption, actor: Actor) -> dict[str, Any]:
    shown = {name: getattr(redemption, name) for name in RedemptionView.__struct_fields__}
    if actor.kind is ActorKind.CUSTOMER:
        shown["operator_id"] = None
    return shown


def _reversal_view(reversal: Reversal) -> ReversalView:
    return ReversalView(**{name: getattr(reversal, name) for name in ReversalView.__struct_fields__})


handlers: list[HTTPRouteHandler] = [
    check_voucher,
    redeem_voucher,
    reverse_redemption,
    list_redemptions,
    get_redemption,
    *statement_handlers,
]
