"""Buyback over HTTP: submit, accept, decline, appeal, follow; and the desk of those who review."""

from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui import evidence
from quanhui.base.access import Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call, ProblemView
from quanhui.buyback import errors, store
from quanhui.buyback.acceptance import PayoutChoice
from quanhui.buyback.counter import Accepting, Counter, Offering
from quanhui.buyback.intake import ask_issuers, read_codes
from quanhui.buyback.offer import Offered, Submission, resolve_review
from quanhui.buyback.rules import (
    LINES_MAX,
    ORDER,
    Item,
    Order,
    OrderState,
    QuoteState,
)
from quanhui.buyback.terms import TermsSource
from quanhui.buyback.views import DecisionView, OrderView, decision_view, order_view
from quanhui.catalogue import BalanceCheck, Connectors
from quanhui.compliance import Method

OrderId = Annotated[str, PathParameter(max_length=64, description="Order id.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
InState = Annotated[OrderState | None, QueryParameter(name="state", description="Only orders in this state.")]
Cursor = Annotated[str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")]


class ItemBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One voucher to sell."""

    code: Annotated[
        str,
        Meta(min_length=4, max_length=128, description="As printed; spaces, dashes and full width are fine."),
    ]
    product_id: Annotated[str, Meta(max_length=64)] | None = None

    def __repr__(self) -> str:
        return f"ItemBody(product_id={self.product_id!r})"


class SellBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a seller offers: one voucher or up to a hundred."""

    items: Annotated[
        list[ItemBody],
        Meta(min_length=1, max_length=LINES_MAX, examples=[[{"code": "RJ50 7K2M 9QX4 T3WB"}]]),
    ]
    long_quote: Annotated[bool, Meta(description="Elder mode: the quote is open longer.")] = False


class AcceptBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which quote is accepted, and how the seller wants to be paid."""

    quote_id: Annotated[str, Meta(max_length=64, examples=["quo_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
    method: Annotated[Method, Meta(examples=["cash"])]
    payee_id: (
        Annotated[
            str,
            Meta(
                max_length=64,
                description="For cash: an account of your own.",
                examples=["pya_01jd8x9k2mf3wvq5t7y1h4n6pz"],
            ),
        ]
        | None
    ) = None
    store_id: Annotated[str, Meta(max_length=64, description="For goods: where you fetch them.")] | None = (
        None
    )


class AppealBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the rejection is wrong."""

    words: Annotated[str, Meta(min_length=1, max_length=1000, examples=["券是公司年会发的，请再核对一次。"])]


class ReviewBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person decided on a review or an appeal."""

    approve: Annotated[bool, Meta(examples=[True])]
    reason: Annotated[str, Meta(min_length=1, max_length=200, examples=["已与发行方核对，券有效。"])]


@post(
    "/buyback/orders",
    opt=needs("buyback.sell", Scope.OWN),
    status_code=201,
    operation_id="sell_vouchers",
    tags=["buyback"],
)
async def sell(
    call: NamedDependency[Call],
    terms: NamedDependency[TermsSource],
    connectors: NamedDependency[Connectors],
    counter: NamedDependency[Counter],
    data: JSONBody[SellBody],
) -> Response[OrderView | ProblemView]:
    """Sell vouchers 提交券码

    A quote at once. Send one code or up to a hundred, each with its product or without. Lines that cannot
    be bought carry a problem; the quote is for the rest. When every line is refused the answer is a problem
    with the `order_id`, which may be appealed.
    """
    present = await terms.get(call.pool, call.now)
    codes = read_codes(present, [Item(text=item.code, product_id=item.product_id) for item in data.items])
    checks: dict[int, BalanceCheck] = {}
    if any(code.is_outside for code in codes):
        if (answered := await call.replay()) is not None:
            return answered
        checks = await ask_issuers(connectors, codes, now=call.now)
    named = frozenset(number for number, item in enumerate(data.items, 1) if item.product_id)
    submission = Submission(seller_id=call.actor.id, device_id=call.device_id, long_quote=data.long_quote)
    offered = Offered(submission=submission, codes=codes, checks=checks, named=named)
    about = [call.actor.id, f"device {call.device_id}"] if call.device_id else [call.actor.id]
    return await counter.sell.do(call, Offering(present, offered), about=about)


@post(
    "/buyback/orders/{order_id:str}/accept",
    opt=needs("buyback.sell", Scope.OWN),
    status_code=200,
    operation_id="accept_quote",
    tags=["buyback"],
)
async def accept(
    call: NamedDependency[Call],
    terms: NamedDependency[TermsSource],
    counter: NamedDependency[Counter],
    order_id: OrderId,
    data: JSONBody[AcceptBody],
) -> Response[OrderView]:
    """Accept the quote 接受报价

    Title passes and the payout starts. Vouchers of our own issue are ours in this call. Those of outside
    issuers are claimed now and locked at their issuer within seconds; follow the order's state.
    """
    choice = PayoutChoice(method=data.method, payee_id=data.payee_id, store_id=data.store_id)
    present = await terms.get(call.pool, call.now)
    accepting = Accepting(call.actor, present, order_id, data.quote_id, choice)
    return await counter.accept.do(call, accepting, about=[order_id])


@post(
    "/buyback/orders/{order_id:str}/decline",
    opt=needs("buyback.sell", Scope.OWN),
    status_code=200,
    operation_id="decline_quote",
    tags=["buyback"],
)
async def decline(
    call: NamedDependency[Call], terms: NamedDependency[TermsSource], order_id: OrderId
) -> Response[OrderView]:
    """Decline the quote 放弃报价

    The vouchers stay yours.
    """
    present = await terms.get(call.pool, call.now)

    async def verb(db: Db) -> OrderView:
        order = await _own_order(db, call, "buyback.sell", order_id)
        if not ORDER.may(order.state, OrderState.DECLINED):
            raise errors.OrderNotOpen(state=order.state)
        await store.close_quote(db, order.id, QuoteState.DECLINED, now=call.now)
        order = await store.move_order(db, order, OrderState.DECLINED, now=call.now)
        return order_view(order, present.catalogue)

    return await call.command(verb)


@post(
    "/buyback/orders/{order_id:str}/appeal",
    opt=needs("buyback.appeal", Scope.OWN),
    status_code=200,
    operation_id="appeal_rejection",
    tags=["buyback"],
)
async def appeal(
    call: NamedDependency[Call],
    terms: NamedDependency[TermsSource],
    order_id: OrderId,
    data: JSONBody[AppealBody],
) -> Response[OrderView]:
    """Appeal a rejection 申诉

    A person will look at it.
    """
    present = await terms.get(call.pool, call.now)

    async def verb(db: Db) -> OrderView:
        order = await _own_order(db, call, "buyback.appeal", order_id)
        if not ORDER.may(order.state, OrderState.APPEALED):
            raise errors.OrderNotOpen(state=order.state)
        await store.insert_appeal(
            db, appeal_id=new_id("apl"), order_id=order.id, words=data.words, now=call.now
        )
        order = await store.move_order(db, order, OrderState.APPEALED, now=call.now)
        return order_view(order, present.catalogue)

    return await call.command(verb)


@post(
    "/buyback/orders/{order_id:str}/review",
    opt=needs("buyback.review", Scope.ALL),
    status_code=200,
    operation_id="review_order",
    tags=["buyback"],
)
async def review(
    call: NamedDependency[Call],
    terms: NamedDependency[TermsSource],
    order_id: OrderId,
    data: JSONBody[ReviewBody],
) -> Response[OrderView]:
    """Decide on a review or an appeal 人工审核

    A fresh quote, or a rejection with its reason.
    """
    present = await terms.get(call.pool, call.now)

    async def verb(db: Db) -> OrderView:
        order = await store.lock_order(db, order_id)
        if order is None:
            raise NotFound
        if order.state not in (OrderState.MANUAL_REVIEW, OrderState.APPEALED):
            raise errors.OrderNotOpen(state=order.state)
        reason = f"{call.actor.id}: {data.reason}"
        order = await resolve_review(db, present, order, approve=data.approve, reason=reason, now=call.now)
        return order_view(order, present.catalogue)

    return await call.command(verb)


@get(
    "/buyback/orders",
    opt=needs("buyback.read", Scope.OWN, Scope.STORE, Scope.ALL),
    operation_id="list_orders",
    tags=["buyback"],
)
async def list_all(
    call: NamedDependency[Call],
    terms: NamedDependency[TermsSource],
    in_state: InState = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[OrderView]:
    """List orders 回收单

    Newest first: your own, your store's, or all, as your role reaches.
    """
    present = await terms.get(call.pool, call.now)
    reach = call.actor.reach("buyback.read")
    orders = await call.query(
        lambda db: store.list_orders(
            db,
            seller_id=call.actor.id if reach is Scope.OWN else None,
            store_id=(call.actor.store_id or "") if reach is Scope.STORE else None,
            state=in_state,
            before=cursor,
            limit=limit + 1,
        )
    )
    return page_of([order_view(order, present.catalogue) for order in orders], limit=limit)


@get(
    "/buyback/orders/{order_id:str}",
    opt=needs("buyback.read", Scope.OWN, Scope.STORE, Scope.ALL),
    operation_id="get_order",
    tags=["buyback"],
)
async def get_one(
    call: NamedDependency[Call], terms: NamedDependency[TermsSource], order_id: OrderId
) -> OrderView:
    """Show an order 回收单

    With each voucher, its price and the reasons for it.
    """
    present = await terms.get(call.pool, call.now)
    order = await call.query(lambda db: _readable(db, call, order_id))
    return order_view(order, present.catalogue)


@get(
    "/buyback/orders/{order_id:str}/receipt",
    opt=needs("buyback.read", Scope.OWN, Scope.STORE, Scope.ALL),
    operation_id="get_order_receipt",
    tags=["buyback"],
)
async def get_receipt(call: NamedDependency[Call], order_id: OrderId) -> evidence.Receipt:
    """Get the receipt 存证凭证

    What happened to each voucher, with proofs that anyone can check.
    """

    async def read(db: Db) -> evidence.Receipt:
        order = await _readable(db, call, order_id)
        return await evidence.receipt(db, [order.id])

    return await call.query(read)


@get(
    "/buyback/orders/{order_id:str}/decision",
    opt=needs("buyback.review", Scope.ALL),
    operation_id="get_order_decision",
    tags=["buyback"],
)
async def get_decision(call: NamedDependency[Call], order_id: OrderId) -> Response[DecisionView]:
    """Show why an order was decided so 风控决定

    Every check with what it saw, and what the seller says against it.
    """

    async def read(db: Db) -> DecisionView:
        found = await store.find_orders(db, [order_id])
        if not found:
            raise NotFound
        return await decision_view(db, found[0])

    return Response(await call.query(read))


handlers: list[HTTPRouteHandler] = [
    sell,
    accept,
    decline,
    appeal,
    review,
    list_all,
    get_one,
    get_receipt,
    get_decision,
]


async def _own_order(db: Db, call: Call, permission: str, order_id: str) -> Order:
    order = await store.lock_order(db, order_id)
    call.actor.require_owner(permission, order.seller_id if order else None)
    if order is None:
        raise NotFound
    return order


async def _readable(db: Db, call: Call, order_id: str) -> Order:
    found = await store.find_orders(db, [order_id])
    order = found[0] if found else None
    if call.actor.reach("buyback.read") is Scope.STORE:
        if order is None or order.store_id is None or order.store_id != call.actor.store_id:
            raise NotFound
        return order
    call.actor.require_owner("buyback.read", order.seller_id if order else None)
    if order is None:
        raise NotFound
    return order
