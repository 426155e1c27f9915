"""Settlement over HTTP: payouts to see and decide on, stored value, and callbacks of the institution."""

from typing import Annotated, Any

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter, SkipValidation
from msgspec import Meta, Struct

from quanhui import ledger
from quanhui.base.access import Actor, Scope, needs, open_to_public
from quanhui.base.db import Db, in_transaction
from quanhui.base.errors import Forbidden, NotFound
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.signing import BadSignature
from quanhui.base.web import Call
from quanhui.ledger import postings
from quanhui.settlement import channel_routes, store
from quanhui.settlement.actions import approve_payouts, clear_flags, hand_over_goods, retry_payouts
from quanhui.settlement.cancelling import cancel_payouts
from quanhui.settlement.custody.routes import handlers as custody_handlers
from quanhui.settlement.errors import CallbackRefused
from quanhui.settlement.reconciliation.routes import handlers as reconciliation_handlers
from quanhui.settlement.reports import take_events
from quanhui.settlement.rules import CUSTODIAN, Payout, State
from quanhui.settlement.stored_value.routes import handlers as stored_value_handlers
from quanhui.settlement.tasks import Channels
from quanhui.settlement.views import (
    READ,
    PayoutDetail,
    PayoutView,
    StoredValueView,
    stored_value_view,
    view_detail,
    view_payouts,
)

CALLBACK_LIMIT_BYTES = 1_000_000
APPROVE = needs("settlement.approve", Scope.ALL)
TAGS = ["settlement"]

Cursor = Annotated[str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
PayoutId = Annotated[str, PathParameter(max_length=64, description="Payout id.")]


class Decision(Struct, frozen=True, forbid_unknown_fields=True):
    """Let a payout go out."""

    payee_id: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(
            description="Another account of the seller to pay to; without one, the account stays.",
            examples=["pya_01jd8x9k2mf3wvq5t7y1h4n6pz"],
        ),
    ] = None


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person found."""

    note: Annotated[
        str,
        Meta(min_length=4, max_length=200, description="Kept in the timeline.", examples=["已与机构核对"]),
    ]


class CallbackView(Struct, frozen=True):
    """The callback was taken in."""

    new_events: Annotated[int, Meta(description="Events that had not come before.")]


class WordOfThanks(Struct, frozen=True):
    """What a channel reads as taken."""

    code: Annotated[str, Meta(description="Always `SUCCESS`.", examples=["SUCCESS"])]


@get(
    "/payouts",
    opt=needs(READ, Scope.OWN, Scope.ENTERPRISE, Scope.STORE, Scope.ALL),
    operation_id="list_payouts",
    tags=TAGS,
)
async def list_payouts(
    call: NamedDependency[Call],
    in_state: Annotated[
        State | None, QueryParameter(name="state", description="Only payouts in this state.")
    ] = None,
    order_id: Annotated[
        str | None, QueryParameter(max_length=64, description="Only that of an order.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[PayoutView]]:
    """List payouts 出款

    Newest first: a seller sees their own, a desk those of its store, finance all.
    """
    actor = call.actor
    scope = actor.reach(READ)

    async def read(db: Db) -> Page[PayoutView]:
        found = await store.list_payouts(
            db,
            seller_id=None if scope in (Scope.STORE, Scope.ALL) else _account_holder(actor),
            store_id=actor.store_id if scope is Scope.STORE else None,
            order_id=order_id,
            state=in_state,
            cursor=cursor,
            limit=limit + 1,
        )
        return page_of(await view_payouts(db, actor, found), limit=limit)

    return Response(await call.query(read))


@get(
    "/payouts/{payout_id:str}",
    opt=needs(READ, Scope.OWN, Scope.ENTERPRISE, Scope.STORE, Scope.ALL),
    operation_id="get_payout",
    tags=TAGS,
)
async def get_payout(call: NamedDependency[Call], payout_id: PayoutId) -> Response[PayoutDetail]:
    """Show a payout 出款

    With its timeline in plain words, oldest first.
    """

    async def read(db: Db) -> PayoutDetail:
        found = await store.find_payouts(db, [payout_id])
        payout = found.get(payout_id)
        if payout is None or not _may_see(call.actor, payout):
            raise NotFound
        return await view_detail(db, call.actor, payout)

    return Response(await call.query(read))


@post(
    "/payouts/{payout_id:str}/approve", opt=APPROVE, operation_id="approve_payout", tags=TAGS, status_code=200
)
async def approve_payout(
    call: NamedDependency[Call], payout_id: PayoutId, data: JSONBody[Decision]
) -> Response[PayoutView]:
    """Approve a payout 审批出款

    Lets a held payout go out. Nobody approves money to themselves. Refused with `payout-blocked` for what no
    approval can waive, such as a frozen voucher.
    """

    async def approve(db: Db) -> PayoutView:
        payees = {payout_id: data.payee_id} if data.payee_id else {}
        approved = await approve_payouts(db, [payout_id], call.actor, payees=payees, now=call.now)
        return await _one(db, call.actor, approved)

    return await call.command(approve)


@post("/payouts/{payout_id:str}/retry", opt=APPROVE, operation_id="retry_payout", tags=TAGS, status_code=200)
async def retry_payout(
    call: NamedDependency[Call], payout_id: PayoutId, data: JSONBody[Decision]
) -> Response[PayoutView]:
    """Pay again 重新出款

    Begins the next transfer of a payout that failed, expired or came back, under a new number.
    """

    async def retry(db: Db) -> PayoutView:
        payees = {payout_id: data.payee_id} if data.payee_id else {}
        going = await retry_payouts(db, [payout_id], call.actor, payees=payees, now=call.now)
        return await _one(db, call.actor, going)

    return await call.command(retry)


@post(
    "/payouts/{payout_id:str}/cancel", opt=APPROVE, operation_id="cancel_payout", tags=TAGS, status_code=200
)
async def cancel_payout(
    call: NamedDependency[Call], payout_id: PayoutId, data: JSONBody[Note]
) -> Response[PayoutView]:
    """Cancel a payout 取消出款

    Cash that is held or not sent yet is cancelled now; what awaits its payee, once its channel has closed the
    transfer, unless the payee was quicker. The money stays owed to the seller.
    """

    async def cancel(db: Db) -> PayoutView:
        cancelled = await cancel_payouts(db, [payout_id], call.actor, note=data.note, now=call.now)
        return await _one(db, call.actor, cancelled)

    return await call.command(cancel)


@post(
    "/payouts/{payout_id:str}/clear-flag",
    opt=APPROVE,
    operation_id="clear_payout_flag",
    tags=TAGS,
    status_code=200,
)
async def clear_payout_flag(
    call: NamedDependency[Call], payout_id: PayoutId, data: JSONBody[Note]
) -> Response[PayoutView]:
    """Clear a flag 解除异常标记

    After the institution's contradictory answers were looked into; the note stays in the timeline.
    """

    async def clear(db: Db) -> PayoutView:
        cleared = await clear_flags(db, [payout_id], call.actor, note=data.note, now=call.now)
        return await _one(db, call.actor, cleared)

    return await call.command(clear)


@post(
    "/payouts/{payout_id:str}/handover",
    opt=needs("settlement.handover", Scope.STORE),
    operation_id="hand_over_goods",
    tags=TAGS,
    status_code=200,
)
async def hand_over(call: NamedDependency[Call], payout_id: PayoutId) -> Response[PayoutView]:
    """Hand goods over 交付商品

    The clerk's store gives the customer goods for the amount; its merchant is owed for them.
    """
    store_id = call.actor.store_id
    if store_id is None:
        raise Forbidden

    async def give(db: Db) -> PayoutView:
        given = await hand_over_goods(
            db, [payout_id], store_id=store_id, actor_id=call.actor.id, now=call.now
        )
        return await _one(db, call.actor, given)

    return await call.command(give)


@get(
    "/stored-value",
    opt=needs(READ, Scope.OWN, Scope.ENTERPRISE),
    operation_id="get_stored_value",
    tags=TAGS,
)
async def get_stored_value(call: NamedDependency[Call]) -> Response[StoredValueView]:
    """Show the stored-value balance 储值余额

    Of the caller's own account; zero before the first top-up.
    """

    async def read(db: Db) -> StoredValueView:
        code = postings.stored_value(_account_holder(call.actor))
        found = await ledger.balances(db, [code])
        return stored_value_view(found[code].balance_fen if code in found else 0)

    return Response(await call.query(read))


@post(
    "/callbacks/institution",
    opt=open_to_public(),
    operation_id="take_institution_callback",
    tags=TAGS,
    status_code=200,
    request_max_body_size=CALLBACK_LIMIT_BYTES,
)
async def take_callback(
    call: NamedDependency[Call],
    channels: NamedDependency[SkipValidation[Channels]],
    request: Request[Any, Any, Any],
) -> Response[CallbackView]:
    """Hear the institution 支付机构回调

    Signed by the institution (Standard Webhooks). Events may come twice, late or out of order; each counts
    once. It answers 200 after the commit; any other answer asks for it to be sent again.
    """
    return Response(CallbackView(await _hear(call, channels, CUSTODIAN, request)))


@post(
    "/callbacks/wechat",
    opt=open_to_public(),
    operation_id="take_wechat_callback",
    tags=TAGS,
    status_code=200,
    request_max_body_size=CALLBACK_LIMIT_BYTES,
)
async def take_wechat_callback(
    call: NamedDependency[Call],
    channels: NamedDependency[SkipValidation[Channels]],
    request: Request[Any, Any, Any],
) -> Response[WordOfThanks]:
    """Hear WeChat 微信支付回调

    Signed by WeChat (RSA-SHA256), its resource sealed with AES-256-GCM. A notice counts once.
    """
    await _hear(call, channels, "wechat", request)
    return Response(WordOfThanks("SUCCESS"))


@post(
    "/callbacks/alipay",
    opt=open_to_public(),
    operation_id="take_alipay_callback",
    tags=TAGS,
    status_code=200,
    request_max_body_size=CALLBACK_LIMIT_BYTES,
    media_type=MediaType.TEXT,
)
async def take_alipay_callback(
    call: NamedDependency[Call],
    channels: NamedDependency[SkipValidation[Channels]],
    request: Request[Any, Any, Any],
) -> str:
    """Hear Alipay 支付宝回调

    A form signed by Alipay (RSA2), answered with the word `success` once it is taken. A notice counts once.
    """
    await _hear(call, channels, "alipay", request)
    return "success"


async def _hear(call: Call, channels: Channels, name: str, request: Request[Any, Any, Any]) -> int:
    """Take a callback of a channel in, and say how many of its events had not come before."""
    channel = channels.get(name)
    if channel is None:
        raise NotFound
    body = await request.body()
    try:
        told = channel.verify_callback(request.headers, body, call.now)
    except BadSignature:
        raise CallbackRefused from None
    return await in_transaction(
        call.pool, lambda db: take_events(db, told.events, channel=name, now=call.now)
    )


async def _one(db: Db, actor: Actor, payouts: list[Payout]) -> PayoutView:
    (view,) = await view_payouts(db, actor, payouts)
    return view


def _account_holder(actor: Actor) -> str:
    """Whose money an actor looks at: their company's if they act for one, else their own."""
    if actor.reach(READ) is Scope.ENTERPRISE:
        assert actor.enterprise_id is not None
        return actor.enterprise_id
    return actor.id


def _may_see(actor: Actor, payout: Payout) -> bool:
    scope = actor.reach(READ)
    if scope is Scope.STORE:
        return payout.store_id == actor.store_id
    return scope is Scope.ALL or payout.seller_id == _account_holder(actor)


handlers: list[HTTPRouteHandler] = [
    list_payouts,
    get_payout,
    approve_payout,
    retry_payout,
    cancel_payout,
    clear_payout_flag,
    hand_over,
    get_stored_value,
    take_callback,
    take_wechat_callback,
    take_alipay_callback,
    *channel_routes.handlers,
    *reconciliation_handlers,
    *custody_handlers,
    *stored_value_handlers,
]
