"""What people see of orders and quotes."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from quanhui import risk
from quanhui.base.db import Db
from quanhui.base.errors import Problem
from quanhui.base.money import Dealing
from quanhui.base.web import ProblemView, problem_view
from quanhui.buyback import errors, store
from quanhui.buyback.rules import ALIKE, ORDER, Line, Order, OrderState, QuoteState, told_problem
from quanhui.catalogue import Catalogue

LINE_PROBLEMS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Problem) and "code" in vars(kind)
}


class ReasonView(Struct, frozen=True):
    """One step of the price."""

    code: str
    effect_fen: int
    zh: str
    en: str


class LineView(Struct, frozen=True, kw_only=True):
    """One voucher of an order. `problem` says why it is refused; the code shows only its end."""

    number: int
    masked_code: str
    product_id: str | None
    product_zh: str | None
    product_en: str | None
    voucher_id: str | None
    face_fen: int
    balance_fen: int
    gross_fen: int
    fee_fen: int
    net_fen: int
    expires_at: datetime | None
    reasons: list[ReasonView]
    problem: ProblemView | None


class QuoteView(Struct, frozen=True, kw_only=True):
    """An offer for all good lines: gross less fee is net. Immutable; open until `expires_at`."""

    id: str
    state: QuoteState
    gross_fen: int
    fee_fen: int
    net_fen: int
    methods: list[str]
    model_version: str
    policy_version: str
    inputs_hash: str
    issued_at: datetime
    expires_at: datetime


class OrderView(Struct, frozen=True, kw_only=True):
    """A buyback order 回收单. `reference` names the decision that an appeal would be about."""

    id: str
    state: OrderState
    created_at: datetime
    updated_at: datetime
    dealing: Dealing
    method: str | None
    payee_id: str | None
    may_appeal: bool
    reference: str
    lines: list[LineView]
    quote: QuoteView | None


class CheckView(Struct, frozen=True, kw_only=True):
    """One check of a risk decision: what was seen against which threshold, and what followed."""

    rule: str
    outcome: risk.Outcome
    line: int | None
    seen: int | str | None
    threshold: int | None
    shadow: bool
    reason_zh: str
    reason_en: str


class AppealView(Struct, frozen=True):
    """What the seller said against the rejection."""

    id: str
    words: str
    created_at: datetime


class DecisionView(Struct, frozen=True, kw_only=True):
    """Why an order was allowed, held, sent to review or rejected: the whole tree, for those who decide."""

    id: Annotated[str, Meta(examples=["rsk_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
    outcome: risk.Outcome
    rules: Annotated[str, Meta(description="Version of the rules.", examples=["rules-1"])]
    at: datetime
    checks: list[CheckView]
    appeals: list[AppealView]


async def decision_view(db: Db, order: Order) -> DecisionView:
    """The decision about an order with all its reasons, and the appeals against it."""
    decision = await risk.find_decision(db, order.decision_id)
    return DecisionView(
        id=decision.id,
        outcome=decision.tree.outcome,
        rules=decision.rules,
        at=decision.at,
        checks=[msgspec.convert(check, CheckView, from_attributes=True) for check in decision.tree.checks],
        appeals=[AppealView(**dict(row)) for row in await store.appeals_of(db, order.id)],
    )


def order_view(order: Order, catalogue: Catalogue) -> OrderView:
    """What the seller sees of an order."""
    quote = order.quote
    return OrderView(
        id=order.id,
        state=order.state,
        created_at=order.created_at,
        updated_at=order.updated_at,
        dealing=order.dealing,
        method=order.method,
        payee_id=order.payee_id,
        may_appeal=ORDER.may(order.state, OrderState.APPEALED),
        reference=order.decision_id,
        lines=[_line_view(order, line, catalogue) for line in order.lines],
        quote=msgspec.convert(quote, QuoteView, from_attributes=True) if quote else None,
    )


def rejection_view(order: Order) -> ProblemView:
    """The problem that a rejected submission is answered with; one line's own where there is but one."""
    lines = [{"number": line.number, "problem": told_problem(order, line)} for line in order.lines]
    codes = {told_problem(order, line) for line in order.lines}
    kind = LINE_PROBLEMS[codes.pop() or ALIKE] if len(codes) == 1 else errors.VoucherNotAccepted
    return problem_view(kind(order_id=order.id, reference=order.decision_id, lines=lines))


def _line_view(order: Order, line: Line, catalogue: Catalogue) -> LineView:
    problem = told_problem(order, line)
    if problem == ALIKE:
        line = Line(number=line.number, tail=line.tail)
    product = catalogue.products.get(line.product_id or "")
    refused = problem is not None
    return LineView(
        number=line.number,
        masked_code=f"••••{line.tail}" if line.tail else "••••",
        product_id=line.product_id,
        product_zh=product.zh if product else None,
        product_en=product.en if product else None,
        voucher_id=None if refused else line.voucher_id,
        face_fen=line.face_fen,
        balance_fen=line.balance_fen,
        gross_fen=line.gross_fen,
        fee_fen=line.fee_fen,
        net_fen=line.net_fen,
        expires_at=None if refused else line.expires_at,
        reasons=[msgspec.convert(reason, ReasonView) for reason in line.reasons],
        problem=problem_view(LINE_PROBLEMS[problem]()) if problem else None,
    )
