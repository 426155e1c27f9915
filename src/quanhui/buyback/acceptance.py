"""Quote to title: the claim, the transfer of title, the ledger and the evidence in one transaction.

A voucher of our own issue is claimed, transferred and re-keyed at once, and the code that the seller
knew is dead. An order with outside vouchers is claimed first; then each is locked at its issuer, outside
any transaction; then title passes in a second one. They are re-keyed after that, and the payout waits.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from random import SystemRandom

import msgspec

from quanhui import compliance, customers, evidence, ledger, risk, vouchers
from quanhui.base.db import Db
from quanhui.base.outbox import Fact, emit
from quanhui.buyback import store
from quanhui.buyback.errors import (
    MethodNotAllowed,
    OrderNotOpen,
    PayeeNotVerified,
    QuoteExpired,
    QuoteNotOpen,
    StoredValueFull,
    VoucherNotAccepted,
)
from quanhui.buyback.rules import ORDER, Line, Order, OrderState, QuoteState
from quanhui.buyback.terms import Terms
from quanhui.catalogue import Capability, Issuer, make_code
from quanhui.compliance import Method
from quanhui.evidence import Event
from quanhui.vouchers import Claim, NewCode

ACCEPTED = "buyback.accepted"
TITLE_TRANSFERRED = "buyback.title_transferred"
SECURED = "buyback.secured"
CANCELLED = "buyback.cancelled"

_random = SystemRandom()


class PayoutChoice(msgspec.Struct, frozen=True, kw_only=True):
    """How the seller wants to be paid: cash to a payee account, stored value, or goods at a store."""

    method: Method
    payee_id: str | None = None
    store_id: str | None = None


class Acceptance(msgspec.Struct, frozen=True):
    """A seller takes the offer of an order, whose lock the caller holds."""

    order: Order
    quote_id: str
    choice: PayoutChoice


async def accept_quotes(
    db: Db, terms: Terms, acceptances: Sequence[Acceptance], *, now: datetime
) -> list[Order]:
    """The sellers take the offers: all of them, or none and the reason of the first that cannot be.

    Raises `QuoteNotOpen`, `QuoteExpired`, `MethodNotAllowed`, `PayeeNotVerified`, `StoredValueFull`, and
    `VoucherNotAccepted` when someone else was first with a voucher.
    """
    for wanted in acceptances:
        _require_open(wanted.order, wanted.quote_id, now=now)
    orders = await _with_choices(db, terms, acceptances, now=now)
    events = await _claim(db, orders, now=now)
    own = [order for order in orders if all(_is_own(terms, line) for line in order.bought_lines)]
    events += await _take_title(db, own, now=now)
    events += await _rekey(db, {order.id: _own_codes(terms, order.bought_lines) for order in own}, now=now)
    await evidence.record(db, events, now=now)
    ours = {order.id for order in own}
    facts = [secured(order) if order.id in ours else Fact(ACCEPTED, order.id) for order in orders]
    await emit(db, facts, now=now)
    states = [OrderState.SETTLING if order.id in ours else OrderState.ACCEPTED for order in orders]
    return await store.accept_orders(db, orders, states, now=now)


async def _take_title(db: Db, orders: Sequence[Order], *, now: datetime) -> list[Event]:
    """Title to every voucher of the orders passes to the platform, and we owe the sellers for them."""
    if not orders:
        return []
    await vouchers.take_title(
        db, {voucher_id: order.id for order in orders for voucher_id in _voucher_ids(order.bought_lines)}
    )
    transfers = [transfer for order in orders for transfer in _owed(order)]
    await ledger.post(db, transfers, now=now)
    return [
        Event(
            line.voucher_id or "",
            "title_transferred",
            order.id,
            {"gross_fen": line.gross_fen, "fee_fen": line.fee_fen, "net_fen": line.net_fen},
        )
        for order in orders
        for line in order.bought_lines
    ]


def _owed(order: Order) -> list[ledger.Transfer]:
    assert order.quote is not None
    return ledger.postings.buyback_accepted(
        order.id,
        seller_id=order.seller_id,
        lines=[ledger.BoughtLine(line.product_id or "", line.gross_fen) for line in order.bought_lines],
        fee_fen=order.quote.fee_fen,
        net_fen=order.quote.net_fen,
    )


async def transfer_title(db: Db, terms: Terms, order: Order, *, now: datetime) -> None:
    """After the locks: title passes, own vouchers are re-keyed, and the outside ones wait for theirs."""
    if order.state is not OrderState.ACCEPTED:
        return
    events = await _take_title(db, [order], now=now)
    own = [line for line in order.bought_lines if _is_own(terms, line)]
    events += await _rekey(db, {order.id: _own_codes(terms, own)}, now=now)
    await evidence.record(db, events, now=now)
    await store.move_order(db, order, OrderState.TITLE_TRANSFERRED, now=now)
    await emit(db, [Fact(TITLE_TRANSFERRED, order.id)], now=now)


async def secure(db: Db, order: Order, codes: Sequence[NewCode], *, now: datetime) -> None:
    """After the issuers re-keyed: store the new codes, and let payout and stock go ahead."""
    if order.state is not OrderState.TITLE_TRANSFERRED:
        return
    await evidence.record(db, await _rekey(db, {order.id: codes}, now=now), now=now)
    await store.move_order(db, order, OrderState.SETTLING, now=now)
    await emit(db, [secured(order)], now=now)


async def cancel(db: Db, order: Order, *, reason: str, now: datetime) -> None:
    """An issuer would not lock: the claims are released, and the seller keeps the vouchers."""
    if order.state is not OrderState.ACCEPTED:
        return
    ids = _voucher_ids(order.bought_lines)
    await vouchers.release(db, ids, order_id=order.id, reason=reason, now=now)
    events = [Event(voucher_id, "released", order.id, {"reason": reason}) for voucher_id in ids]
    await evidence.record(db, events, now=now)
    await store.move_order(db, order, OrderState.CANCELLED, reason=reason, now=now)
    await emit(db, [Fact(CANCELLED, order.id)], now=now)


async def mark_settled(db: Db, order_ids: Sequence[str], *, now: datetime) -> None:
    """The payouts of these orders succeeded."""
    await store.move_orders(db, order_ids, before=[OrderState.SETTLING], after=OrderState.SETTLED, now=now)


async def mark_returned(db: Db, order_ids: Sequence[str], *, now: datetime) -> None:
    """The payouts of these orders came back after succeeding: they are being settled again."""
    await store.move_orders(db, order_ids, before=[OrderState.SETTLED], after=OrderState.SETTLING, now=now)


def secured(order: Order) -> Fact:
    """The fact that every voucher of an order is safely ours: it may be paid for and put into stock."""
    assert order.quote is not None
    return Fact(
        SECURED,
        order.id,
        {
            "order_id": order.id,
            "seller_id": order.seller_id,
            "payee_id": order.payee_id,
            "method": order.method,
            "store_id": order.goods_store_id,
            "net_fen": order.quote.net_fen,
            "hold_reason": order.hold_reason,
            "voucher_ids": _voucher_ids(order.bought_lines),
            "vouchers": [
                {
                    "voucher_id": line.voucher_id,
                    "product_id": line.product_id,
                    "cost_fen": line.gross_fen,
                    "face_fen": line.face_fen,
                    "balance_fen": line.balance_fen,
                    "expires_at": line.expires_at.isoformat() if line.expires_at else None,
                }
                for line in order.bought_lines
            ],
        },
    )


def outside_lines(terms: Terms, order: Order) -> list[Line]:
    """The lines of outside issuers."""
    return [line for line in order.bought_lines if not _is_own(terms, line)]


def can_rekey(terms: Terms, line: Line) -> bool:
    """Whether the issuer of a line replaces codes; one that does not keeps the voucher locked for us."""
    return Capability.REKEY in _issuer(terms, line).capabilities


def by_issuer(terms: Terms, lines: Sequence[Line]) -> Mapping[str, list[Line]]:
    """Lines by the id of their issuer."""
    grouped: dict[str, list[Line]] = {}
    for line in lines:
        grouped.setdefault(_issuer(terms, line).id, []).append(line)
    return grouped


def _require_open(order: Order, quote_id: str, *, now: datetime) -> None:
    quote = order.quote
    if quote is None or quote.id != quote_id or quote.state is not QuoteState.ISSUED:
        if quote is not None and quote.id == quote_id and quote.state is QuoteState.EXPIRED:
            raise QuoteExpired
        raise QuoteNotOpen
    if now >= quote.expires_at:
        raise QuoteExpired
    if not ORDER.may(order.state, OrderState.ACCEPTED):
        raise OrderNotOpen(state=order.state)


async def _with_choices(
    db: Db, terms: Terms, acceptances: Sequence[Acceptance], *, now: datetime
) -> list[Order]:
    """The orders with the chosen ways of payment, after checking that each is open and complete."""
    for wanted in acceptances:
        _require_complete(wanted)
    uses = [
        risk.PayeeUse(
            order_id=wanted.order.id, seller_id=wanted.order.seller_id, payee_id=wanted.choice.payee_id or ""
        )
        for wanted in acceptances
        if wanted.choice.method is Method.CASH
    ]
    await _require_room(db, acceptances, now=now)
    trees = await _judge_payees(db, terms, uses, now=now) if uses else {}
    return [_with_choice(wanted, trees.get(wanted.order.id)) for wanted in acceptances]


def _require_complete(wanted: Acceptance) -> None:
    quote, choice = wanted.order.quote, wanted.choice
    assert quote is not None
    if choice.method not in quote.methods:
        raise MethodNotAllowed(allowed=list(quote.methods))
    if choice.method is Method.GOODS and not choice.store_id:
        raise MethodNotAllowed(missing="store_id")
    if choice.method is Method.CASH and not choice.payee_id:
        raise MethodNotAllowed(missing="payee_id")


async def _require_room(db: Db, acceptances: Sequence[Acceptance], *, now: datetime) -> None:
    """Stored value has a limit for each holder; what comes in between is held at the payout."""
    top_ups = [wanted.order for wanted in acceptances if wanted.choice.method is Method.STORED_VALUE]
    room = await compliance.stored_value_room(db, {order.seller_id for order in top_ups}, now=now)
    for order in top_ups:
        assert order.quote is not None
        if order.quote.net_fen > room[order.seller_id]:
            raise StoredValueFull(room_fen=room[order.seller_id])
        room[order.seller_id] -= order.quote.net_fen


async def _judge_payees(
    db: Db, terms: Terms, uses: Sequence[risk.PayeeUse], *, now: datetime
) -> dict[str, risk.Tree]:
    """What risk control says of each account, by order; every one must be open and the seller's own."""
    payees = await customers.payees(db, sorted({use.payee_id for use in uses}))
    for use in uses:
        payee = payees.get(use.payee_id)
        if payee is None or payee.customer_id != use.seller_id or payee.closed_at is not None:
            raise PayeeNotVerified
    return await risk.assess_payees(db, terms.rules, uses, now=now)


def _with_choice(wanted: Acceptance, tree: risk.Tree | None) -> Order:
    order, choice = wanted.order, wanted.choice
    held_by_risk = next((check.rule for check in tree.deciding()), None) if tree else None
    return msgspec.structs.replace(
        order,
        method=choice.method,
        payee_id=choice.payee_id if choice.method is Method.CASH else None,
        goods_store_id=choice.store_id if choice.method is Method.GOODS else None,
        hold_reason=order.hold_reason or held_by_risk,
    )


async def _claim(db: Db, orders: Sequence[Order], *, now: datetime) -> list[Event]:
    claims = [
        Claim(line.voucher_id or "", line.fingerprint or b"", order.id, order.seller_id, line.balance_fen)
        for order in orders
        for line in order.bought_lines
    ]
    try:
        await vouchers.claim(db, claims, now=now)
    except vouchers.NotClaimable as lost:
        gone = lost.facts["vouchers"]
        assert isinstance(gone, list)
        order, numbers = next(
            (order, numbers)
            for order in orders
            if (numbers := [line.number for line in order.bought_lines if line.voucher_id in gone])
        )
        raise VoucherNotAccepted(order_id=order.id, lines=numbers) from lost
    return [Event(claim.voucher_id, "claimed", claim.order_id) for claim in claims]


def _own_codes(terms: Terms, lines: Sequence[Line]) -> list[NewCode]:
    """New codes for vouchers of our own issue: we are the issuer, so they are ours to make."""
    codes = []
    for line in lines:
        assert line.product_id
        assert line.voucher_id
        product = terms.catalogue.products[line.product_id]
        codes.append(
            vouchers.seal_code(
                terms.keyring,
                voucher_id=line.voucher_id,
                issuer_id=product.issuer_id,
                code=make_code(product.code_format, _random),
            )
        )
    return codes


async def _rekey(db: Db, codes: Mapping[str, Sequence[NewCode]], *, now: datetime) -> list[Event]:
    """Replace the codes of vouchers, given by order."""
    fresh = [code for of_order in codes.values() for code in of_order]
    if not fresh:
        return []
    await vouchers.rekey(db, fresh, now=now)
    return [
        Event(code.voucher_id, "rekeyed", order_id)
        for order_id, of_order in codes.items()
        for code in of_order
    ]


def _is_own(terms: Terms, line: Line) -> bool:
    return _issuer(terms, line).is_own


def _issuer(terms: Terms, line: Line) -> Issuer:
    return terms.catalogue.issuer_of(line.product_id or "")


def _voucher_ids(lines: Sequence[Line]) -> list[str]:
    return [line.voucher_id for line in lines if line.voucher_id]
