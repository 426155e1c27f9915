"""Quote to title: the claim, the transfer of title, the ledger and the evidence in one transaction.

A voucher of our own issue is claimed, transferred and re-keyed at once, and the code that the seller
knew is dead. An order with outside vouchers is claimed first; then each is locked at its issuer, outside
any transaction; then title passes in a second one. They are re-keyed after that, and the payout waits.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from random import SystemRandom

import msgspec

from quanhui import customers, evidence, ledger, risk, vouchers
from quanhui.base.db import Db
from quanhui.base.outbox import Fact, emit
from quanhui.buyback import store
from quanhui.buyback.errors import (
    MethodNotAllowed,
    OrderNotOpen,
    PayeeNotVerified,
    QuoteExpired,
    QuoteNotOpen,
    VoucherNotAccepted,
)
from quanhui.buyback.rules import ORDER, Line, Order, OrderState, Quote, QuoteState
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


async def accept_quote(
    db: Db, terms: Terms, order: Order, quote_id: str, choice: PayoutChoice, *, now: datetime
) -> Order:
    """The seller takes the offer. The caller holds the lock on the order.

    Raises `QuoteNotOpen`, `QuoteExpired`, `MethodNotAllowed`, `PayeeNotVerified`, and
    `VoucherNotAccepted` when someone else was first with a voucher.
    """
    quote = _open_quote(order, quote_id, now=now)
    order = await _with_choice(db, terms, order, quote, choice, now=now)
    events = await _claim(db, order, now=now)
    if all(_is_own(terms, line) for line in order.bought_lines):
        events += await _take_title(db, order, now=now)
        events += await _rekey(db, order, _own_codes(terms, order.bought_lines), now=now)
        fact, state = secured(order), OrderState.SETTLING
    else:
        fact, state = Fact(ACCEPTED, order.id), OrderState.ACCEPTED
    await evidence.record(db, events, now=now)
    await emit(db, [fact], now=now)
    return await store.accept_order(db, order, state, quote_id=quote.id, now=now)


async def _take_title(db: Db, order: Order, *, now: datetime) -> list[Event]:
    """Title to every voucher of the order passes to the platform, and we owe the seller for them."""
    assert order.quote is not None
    lines = order.bought_lines
    await vouchers.take_title(db, _voucher_ids(lines), order_id=order.id)
    bought = [ledger.BoughtLine(line.product_id or "", line.gross_fen) for line in lines]
    await ledger.post(
        db,
        ledger.postings.buyback_accepted(
            order.id,
            seller_id=order.seller_id,
            lines=bought,
            fee_fen=order.quote.fee_fen,
            net_fen=order.quote.net_fen,
        ),
        now=now,
    )
    return [
        Event(
            line.voucher_id or "",
            "title_transferred",
            order.id,
            {"gross_fen": line.gross_fen, "fee_fen": line.fee_fen, "net_fen": line.net_fen},
        )
        for line in lines
    ]


async def transfer_title(db: Db, terms: Terms, order: Order, *, now: datetime) -> None:
    """After the locks: title passes, own vouchers are re-keyed, and the outside ones wait for theirs."""
    if order.state is not OrderState.ACCEPTED:
        return
    events = await _take_title(db, order, now=now)
    own = [line for line in order.bought_lines if _is_own(terms, line)]
    events += await _rekey(db, order, _own_codes(terms, own), now=now)
    await evidence.record(db, events, now=now)
    await store.move_order(db, order, OrderState.TITLE_TRANSFERRED, now=now)
    await emit(db, [Fact(TITLE_TRANSFERRED, order.id)], now=now)


async def secure(db: Db, order: Order, codes: Sequence[NewCode], *, now: datetime) -> None:
    """After the issuers re-keyed: store the new codes, and let payout and stock go ahead."""
    if order.state is not OrderState.TITLE_TRANSFERRED:
        return
    await evidence.record(db, await _rekey(db, order, codes, now=now), now=now)
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


def _open_quote(order: Order, quote_id: str, *, now: datetime) -> Quote:
    quote = order.quote
    if quote is None or quote.id != quote_id or quote.state is not QuoteState.ISSUED:
        if quote is not None and quote.id == quote_id and quote.state is QuoteState.EXPIRED:
            raise QuoteExpired
        raise QuoteNotOpen
    if now >= quote.expires_at:
        raise QuoteExpired
    if not ORDER.may(order.state, OrderState.ACCEPTED):
        raise OrderNotOpen(state=order.state)
    return quote


async def _with_choice(
    db: Db, terms: Terms, order: Order, quote: Quote, choice: PayoutChoice, *, now: datetime
) -> Order:
    """The order with the chosen way of payment, after checking that it is open and complete."""
    if choice.method not in quote.methods:
        raise MethodNotAllowed(allowed=list(quote.methods))
    hold_reason = order.hold_reason
    if choice.method is Method.GOODS and not choice.store_id:
        raise MethodNotAllowed(missing="store_id")
    if choice.method is Method.CASH:
        if not choice.payee_id:
            raise MethodNotAllowed(missing="payee_id")
        payee = (await customers.payees(db, [choice.payee_id])).get(choice.payee_id)
        if payee is None or payee.customer_id != order.seller_id or payee.closed_at is not None:
            raise PayeeNotVerified
        tree = await risk.assess_payee(
            db,
            terms.rules,
            order_id=order.id,
            seller_id=order.seller_id,
            payee_id=choice.payee_id,
            now=now,
        )
        hold_reason = hold_reason or next((check.rule for check in tree.deciding()), None)
    return msgspec.structs.replace(
        order,
        method=choice.method,
        payee_id=choice.payee_id if choice.method is Method.CASH else None,
        goods_store_id=choice.store_id if choice.method is Method.GOODS else None,
        hold_reason=hold_reason,
    )


async def _claim(db: Db, order: Order, *, now: datetime) -> list[Event]:
    claims = [
        Claim(line.voucher_id or "", line.fingerprint or b"", line.balance_fen) for line in order.bought_lines
    ]
    try:
        await vouchers.claim(db, claims, order_id=order.id, claimant_id=order.seller_id, now=now)
    except vouchers.NotClaimable as lost:
        gone = lost.facts["vouchers"]
        assert isinstance(gone, list)
        numbers = [line.number for line in order.bought_lines if line.voucher_id in gone]
        raise VoucherNotAccepted(order_id=order.id, lines=numbers) from lost
    return [Event(claim.voucher_id, "claimed", order.id) for claim in claims]


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


async def _rekey(db: Db, order: Order, codes: Sequence[NewCode], *, now: datetime) -> list[Event]:
    if not codes:
        return []
    await vouchers.rekey(db, codes, now=now)
    return [Event(code.voucher_id, "rekeyed", order.id) for code in codes]


def _is_own(terms: Terms, line: Line) -> bool:
    return _issuer(terms, line).is_own


def _issuer(terms: Terms, line: Line) -> Issuer:
    return terms.catalogue.issuer_of(line.product_id or "")


def _voucher_ids(lines: Sequence[Line]) -> list[str]:
    return [line.voucher_id for line in lines if line.voucher_id]
