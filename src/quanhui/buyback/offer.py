"""Submission to quote: one transaction in which the vouchers are screened, judged and priced."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce

import msgspec

from quanhui import risk, valuation
from quanhui.base.clock import local_day, whole_days_until
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.buyback import store
from quanhui.buyback.intake import look_up, screen
from quanhui.buyback.rules import (
    Basis,
    Line,
    Order,
    OrderState,
    Quote,
    ReadCode,
    Refusal,
    make_quote,
    price_line,
)
from quanhui.buyback.terms import Terms
from quanhui.catalogue import BalanceCheck
from quanhui.compliance import Method
from quanhui.risk import Outcome
from quanhui.vouchers import FoundCode

REGION = "CN"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Who offers, from where. `long_quote` gives older people more time."""

    seller_id: str
    store_id: str | None = None
    device_id: str | None = None
    long_quote: bool = False


class Offer(msgspec.Struct, frozen=True):
    """Priced lines with what the price was made from."""

    lines: tuple[Line, ...]
    methods: tuple[str, ...]
    inputs: tuple[str, ...]


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """What a seller offers: `codes` from `read_codes`, and `checks` by line from `ask_issuers`.

    `named` are the lines whose product the seller named.
    """

    submission: Submission
    codes: Sequence[ReadCode]
    checks: Mapping[int, BalanceCheck] = {}
    named: frozenset[int] = frozenset()


async def sell_vouchers(db: Db, terms: Terms, offered: Sequence[Offered], *, now: datetime) -> list[Order]:
    """Take in what sellers offer; each is answered with a quote, a review, or a rejection with its reasons.

    Lines that are refused stay in the order with their reason; the quote is for the rest.
    """
    asked = [(code, each.checks.get(code.number)) for each in offered for code in each.codes]
    found = await look_up(db, terms, asked, now=now)
    offers = [price(terms, _screen(terms, each, found, now=now), now=now) for each in offered]
    ids = [new_id("ord") for _ in offered]
    for_risk = [
        _for_risk(order_id, each.submission, offer)
        for order_id, each, offer in zip(ids, offered, offers, strict=True)
    ]
    decisions = await risk.assess(db, terms.rules, for_risk, now=now)
    orders = [
        _order(terms, order_id, each.submission, offer, decision, now=now)
        for order_id, each, offer, decision in zip(ids, offered, offers, decisions, strict=True)
    ]
    await store.insert_orders(db, orders)
    return orders


def _screen(terms: Terms, offered: Offered, found: Mapping[bytes, FoundCode], *, now: datetime) -> list[Line]:
    return [
        screen(
            code,
            found.get(code.fingerprint) if code.fingerprint else None,
            offered.checks.get(code.number),
            terms=terms,
            seller_id=offered.submission.seller_id,
            named_product=code.number in offered.named,
            now=now,
        )
        for code in offered.codes
    ]


def price(terms: Terms, lines: Sequence[Line], *, now: datetime) -> Offer:
    """Put a price on every line that is not refused, and find the ways of payment open to all of them."""
    day = local_day(now)
    allowed: dict[int, frozenset[Method]] = {}
    for line in lines:
        if line.refusal is None and line.product_id:
            product = terms.catalogue.products[line.product_id]
            allowed[line.number] = terms.policies.allowed_methods(
                legal_class=product.legal_class, face_fen=line.face_fen, region=REGION, day=day
            )
    open_to_all = reduce(frozenset.intersection, filter(None, allowed.values()), frozenset(Method))
    priced, inputs = [], []
    for line in lines:
        if line.refusal is not None:
            priced.append(line)
        elif not allowed[line.number] & open_to_all:
            priced.append(line.refused(Refusal.NOT_BOUGHT))
        else:
            fresh, seen = _price_one(terms, line, now=now)
            priced.append(fresh)
            inputs.append(seen)
    return Offer(tuple(priced), tuple(sorted(open_to_all)), tuple(inputs))


def _price_one(terms: Terms, line: Line, *, now: datetime) -> tuple[Line, str]:
    assert line.product_id
    assert line.expires_at
    product = terms.catalogue.products[line.product_id]
    subject = valuation.Subject(
        category=product.category,
        product_id=product.id,
        balance_fen=line.balance_fen,
        days_left=whole_days_until(line.expires_at, now),
    )
    (appraisal,) = valuation.appraise(terms.rates, [subject])
    inputs = f"{appraisal.inputs_hash}:{product.fee_bps}"
    if appraisal.value_fen == 0:
        near = appraisal.reasons[0].code == valuation.TOO_NEAR_EXPIRY
        return line.refused(Refusal.TOO_NEAR_EXPIRY if near else Refusal.NOT_BOUGHT), inputs
    reasons = [msgspec.to_builtins(reason) for reason in appraisal.reasons]
    line = price_line(line, value_fen=appraisal.value_fen, fee_bps=product.fee_bps, reasons=reasons)
    return line, inputs


def _for_risk(order_id: str, submission: Submission, offer: Offer) -> risk.Submission:
    refused = [line for line in offer.lines if line.refusal is not None]
    return risk.Submission(
        order_id=order_id,
        seller_id=submission.seller_id,
        device_id=submission.device_id,
        offered=len(offer.lines),
        refused=len(refused),
        amount_fen=sum(line.gross_fen for line in offer.lines),
        line_checks=tuple(
            risk.Check(rule=str(line.refusal), outcome=Outcome.REJECT, line=line.number) for line in refused
        ),
    )


def _order(
    terms: Terms,
    order_id: str,
    submission: Submission,
    offer: Offer,
    decision: risk.Decision,
    *,
    now: datetime,
) -> Order:
    outcome = decision.tree.outcome
    reasons = ",".join(check.rule for check in decision.tree.deciding()) or None
    state, reason = OrderState.QUOTED, None
    if outcome is Outcome.REJECT:
        state, reason = OrderState.REJECTED, reasons
    elif all(line.refusal is not None for line in offer.lines):
        state, reason = OrderState.REJECTED, "every_line_refused"
    elif outcome is Outcome.REVIEW:
        state, reason = OrderState.MANUAL_REVIEW, reasons
    order = Order(
        id=order_id,
        seller_id=submission.seller_id,
        state=state,
        store_id=submission.store_id,
        device_id=submission.device_id,
        long_quote=submission.long_quote,
        hold_reason=reasons if outcome is Outcome.HOLD else None,
        decision_id=decision.id,
        method=None,
        payee_id=None,
        goods_store_id=None,
        reason=reason,
        created_at=now,
        updated_at=now,
        lines=offer.lines,
    )
    if state is not OrderState.QUOTED:
        return order
    return msgspec.structs.replace(order, quote=_quote(terms, order, offer, now=now))


def _quote(terms: Terms, order: Order, offer: Offer, *, now: datetime) -> Quote:
    basis = Basis(
        model_version=terms.rates.version, policy_version=terms.policies.version, inputs=offer.inputs
    )
    ttl = terms.long_quote_ttl if order.long_quote else terms.quote_ttl
    return make_quote(new_id("quo"), order, methods=offer.methods, basis=basis, now=now, ttl=ttl)


async def resolve_review(
    db: Db, terms: Terms, order: Order, *, approve: bool, reason: str, now: datetime
) -> Order:
    """A person decides on an order under review or appeal: a fresh quote for its good lines, or a rejection.

    The caller holds the lock on the order and records who decided. Lines that were refused stay refused.
    """
    offer = price(terms, order.lines, now=now)
    if not approve or all(line.refusal is not None for line in offer.lines):
        return await store.move_order(db, order, OrderState.REJECTED, reason=reason, now=now)
    quote = _quote(terms, msgspec.structs.replace(order, lines=offer.lines), offer, now=now)
    await store.insert_quote(db, quote, offer.lines)
    moved = await store.move_order(db, order, OrderState.QUOTED, reason=reason, now=now)
    return msgspec.structs.replace(moved, lines=offer.lines, quote=quote)
