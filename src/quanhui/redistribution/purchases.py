"""Buying: reserve, pay, see the codes; and what becomes of a purchase that is not paid in time.

A purchase is paid in money, through the institution, and in no other way: vouchers and stored value cannot
buy vouchers (invariant 13). Rows are locked in one order everywhere: purchases, listings, vouchers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui import evidence, ledger, vouchers
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import is_id, new_id
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Fact, emit
from quanhui.redistribution import store
from quanhui.redistribution.errors import ListingTaken, NotCancellable, NotRevealable, TooManyReserved
from quanhui.redistribution.rules import (
    AFTERCARE,
    GUARANTEE,
    MOST_RESERVED,
    RESERVE_FOR,
    REVEALABLE,
    Listing,
    ListingState,
    Payment,
    Purchase,
    PurchaseState,
    Reason,
    Refund,
    id_of,
)
from quanhui.redistribution.stock import withdraw
from quanhui.redistribution.store import queries

PAYMENT_WANTED = "redistribution.payment_wanted"
CLOSE_WANTED = "redistribution.close_wanted"
REFUND_WANTED = "redistribution.refund_wanted"
SOLD = "redistribution.sold"
PURCHASE_CLOSED = "redistribution.purchase_closed"
PAYMENT_MISMATCHED = "redistribution.payment_mismatched"

BATCH = 200


async def reserve(
    db: Db, listing_ids: Sequence[str], *, buyer_id: str, ttl: timedelta = RESERVE_FOR, now: datetime
) -> Purchase:
    """Set listings aside for a buyer until `now + ttl`, all or nothing, and have the payment opened.

    Raises `ListingTaken`, naming what is not for sale, and `TooManyReserved`.
    """
    wanted = sorted(set(listing_ids))
    await queries.lock_buyer(db, buyer_id=buyer_id)
    if await queries.count_reserved(db, buyer_id=buyer_id) + len(wanted) > MOST_RESERVED:
        raise TooManyReserved(most=MOST_RESERVED)
    purchase_id = new_id("pur")
    rows = await queries.hold(db, ids=wanted, purchase_id=purchase_id, now=now)
    listings = sorted(store.listings_of(rows), key=lambda each: each.id)
    if len(listings) < len(wanted):
        raise ListingTaken(listings=sorted(set(wanted) - {each.id for each in listings}))
    total_fen = sum(_price_of(each) for each in listings)
    await queries.add_purchase(
        db,
        id=purchase_id,
        buyer_id=buyer_id,
        total_fen=total_fen,
        reserved_until=now + ttl,
        listing_ids=[each.id for each in listings],
        prices_fen=[each.price_fen for each in listings],
        now=now,
    )
    try:
        await vouchers.reserve(db, [each.voucher_id for each in listings])
    except vouchers.CustodyChanged as moved:
        gone = moved.facts["vouchers"]
        assert isinstance(gone, list)
        raise ListingTaken(listings=[each.id for each in listings if each.voucher_id in gone]) from moved
    await _record(db, "reserved", listings, subject=purchase_id, now=now)
    await emit(db, [Fact(PAYMENT_WANTED, purchase_id, {"amount_fen": total_fen})], now=now)
    return (await find_purchases(db, [purchase_id]))[0]


async def cancel(db: Db, purchase_id: str, *, buyer_id: str, now: datetime) -> Purchase:
    """Give up a purchase that is not paid. It is closed once the institution has closed the payment.

    Cancelling again changes nothing. Raises `NotFound`, and `NotCancellable` once money has come.
    """
    purchase = await lock_purchase_of(db, purchase_id, buyer_id=buyer_id)
    if purchase.state is PurchaseState.PENDING_PAYMENT:
        await _want_closed(db, [purchase.id], Reason.CANCELLED, now=now)
    elif purchase.state is not PurchaseState.CLOSED:
        raise NotCancellable(state=purchase.state)
    return (await find_purchases(db, [purchase_id]))[0]


async def sweep_reservations(db: Db, *, limit: int = BATCH, now: datetime) -> int:
    """Have the payments of lapsed reservations closed at the institution; returns how many.

    The vouchers stay reserved until the institution has said that nobody can pay for them any more.
    """
    lapsed = store.purchases_of(await queries.lock_lapsed(db, limit=limit, now=now))
    await _want_closed(db, [purchase.id for purchase in lapsed], Reason.LAPSED, now=now)
    return len(lapsed)


async def release(db: Db, purchase_ids: Sequence[str], *, now: datetime) -> None:
    """Close purchases whose payment is closed for good, and put their vouchers up for sale again.

    Purchases that are not waiting for a payment are passed over.
    """
    locked = await store.lock_purchases(db, purchase_ids)
    ids = [each.id for each in locked if each.state is PurchaseState.PENDING_PAYMENT]
    if ids:
        await _let_go(db, ids, now=now)
        await queries.mark_closed(db, ids=ids)
        await emit(db, [Fact(PURCHASE_CLOSED, purchase_id) for purchase_id in ids], now=now)


async def confirm_paid(db: Db, payments: Sequence[Payment], *, institution: str, now: datetime) -> None:
    """Sell what the institution says was paid, each purchase once, however often it is told.

    A payment that came after its reservation lapsed still buys, if nobody else took a voucher. Otherwise,
    and when the amount is not the price, what came is given back. Numbers that are not ours are passed over.
    """
    received = {id_of(payment.out_no, "pur"): payment.amount_fen for payment in payments}
    locked = await store.lock_purchases(db, sorted(pid for pid in received if is_id(pid, "pur")))
    open_ones = [p for p in locked if p.state in (PurchaseState.PENDING_PAYMENT, PurchaseState.CLOSED)]
    wrong = [purchase for purchase in open_ones if received[purchase.id] != purchase.total_fen]
    right = [purchase for purchase in open_ones if received[purchase.id] == purchase.total_fen]
    taken = [
        purchase
        for purchase in right
        if purchase.state is PurchaseState.CLOSED and not await _hold_again(db, purchase, now=now)
    ]
    await _sell(db, [each for each in right if each not in taken], institution=institution, now=now)
    if wrong:
        holding = [each.id for each in wrong if each.state is PurchaseState.PENDING_PAYMENT]
        await _let_go(db, holding, now=now)
        facts = [
            Fact(PAYMENT_MISMATCHED, p.id, {"total_fen": p.total_fen, "received_fen": received[p.id]})
            for p in wrong
        ]
        await emit(db, facts, now=now)
    reasons = {p.id: Reason.WRONG_AMOUNT for p in wrong} | {p.id: Reason.TAKEN_MEANWHILE for p in taken}
    await _owe_back(db, [*wrong, *taken], received, reasons, institution=institution, now=now)


async def reveal(
    db: Db,
    keyring: Keyring,
    purchase_id: str,
    *,
    buyer_id: str,
    actor_id: str,
    listing_ids: Sequence[str] | None = None,
    now: datetime,
) -> dict[str, str]:
    """Show the buyer the codes of a purchase, or of some of its listings; returns code by listing id.

    Each time is logged; the first starts the guarantee. Raises `NotFound` for a stranger's purchase, and
    `NotRevealable` unless it is paid and every voucher is clear and still the buyer's.
    """
    purchase = await lock_purchase_of(db, purchase_id, buyer_id=buyer_id)
    if purchase.state is not PurchaseState.PAID:
        raise NotRevealable
    listings = await lock_sold(db, purchase_id, listing_ids)
    known = await vouchers.find_vouchers(db, [each.voucher_id for each in listings])
    barred = [
        each.id
        for each in listings
        if each.state not in REVEALABLE or not _is_theirs(known[each.voucher_id], buyer_id)
    ]
    if barred or not listings:
        raise NotRevealable(listings=barred)
    codes = await vouchers.reveal(
        db, keyring, [each.voucher_id for each in listings], actor_id=actor_id, reason=purchase_id, now=now
    )
    unseen = [each for each in listings if each.state is ListingState.SOLD]
    if unseen:
        await queries.mark_revealed(db, ids=[each.id for each in unseen], until=now + GUARANTEE)
        await _record(db, "revealed", unseen, subject=purchase_id, now=now)
    return {each.id: codes[each.voucher_id] for each in listings}


async def sweep_guarantees(db: Db, *, limit: int = BATCH, now: datetime) -> int:
    """End guarantees that ran out and close sales past all care; returns how many listings moved."""
    moved: int = await queries.end_guarantees(db, now=now, over_before=now - AFTERCARE, limit=limit)
    return moved


async def confirm_refunds(db: Db, refund_ids: Sequence[str], *, institution: str, now: datetime) -> None:
    """The institution has given this money back. Hearing it again changes nothing."""
    refunds = store.refunds_of(await queries.finish_refunds(db, ids=sorted(refund_ids), now=now))
    if not refunds:
        return
    purchases = await store.lock_purchases(db, sorted({refund.purchase_id for refund in refunds}))
    buyer = {purchase.id: purchase.buyer_id for purchase in purchases}
    transfers = [
        transfer
        for refund in refunds
        for transfer in ledger.postings.refund_paid(
            refund.id,
            institution=institution,
            customer_id=buyer[refund.purchase_id],
            amount_fen=refund.amount_fen,
        )
    ]
    await ledger.post(db, transfers, now=now)
    await queries.mark_refunded(db, ids=list(buyer))


async def find_purchases(db: Db, purchase_ids: Sequence[str]) -> list[Purchase]:
    """Purchases by id, in the order of their ids; unknown ones are absent."""
    return store.purchases_of(await queries.find_purchases(db, ids=list(purchase_ids)))


async def lock_purchase_of(db: Db, purchase_id: str, *, buyer_id: str) -> Purchase:
    """One purchase of this buyer, locked. Raises `NotFound`, for a stranger's as for one that is not."""
    found = await store.lock_purchases(db, [purchase_id])
    if not found or found[0].buyer_id != buyer_id:
        raise NotFound
    return found[0]


async def lock_sold(db: Db, purchase_id: str, listing_ids: Sequence[str] | None) -> list[Listing]:
    """Listings that a purchase bought, locked; all of them unless named. Raises `NotFound` for others."""
    ids = None if listing_ids is None else sorted(set(listing_ids))
    listings = store.listings_of(await queries.lock_sold(db, purchase_id=purchase_id, ids=ids))
    if ids is not None and len(listings) < len(ids):
        raise NotFound
    return listings


async def _want_closed(db: Db, purchase_ids: Sequence[str], reason: Reason, *, now: datetime) -> None:
    rows = await queries.want_closed(db, ids=list(purchase_ids), reason=reason, now=now)
    await emit(db, [Fact(CLOSE_WANTED, row["id"]) for row in rows], now=now)


async def _let_go(db: Db, purchase_ids: Sequence[str], *, now: datetime) -> None:
    listings = store.listings_of(await queries.lock_reserved(db, purchase_ids=list(purchase_ids)))
    if not listings:
        return
    voucher_ids = [each.voucher_id for each in listings]
    await queries.let_go(db, ids=[each.id for each in listings])
    await vouchers.unreserve(db, voucher_ids)
    events = [evidence.Event(each.voucher_id, "unreserved", each.purchase_id or "") for each in listings]
    await evidence.record(db, events, now=now)
    known = await vouchers.find_vouchers(db, voucher_ids)
    unsound = [each.id for each in known.values() if each.integrity is not vouchers.Integrity.CLEAR]
    if unsound:
        await withdraw(db, unsound, now=now)


async def _hold_again(db: Db, purchase: Purchase, *, now: datetime) -> bool:
    """Reserve what a lapsed purchase asked for, at the price agreed then, if all of it is still free."""
    listings = store.listings_of(await queries.lock_items(db, purchase_id=purchase.id))
    known = await vouchers.find_vouchers(db, [each.voucher_id for each in listings])
    if not all(
        each.state is ListingState.LISTED
        and each.expires_at > now
        and known[each.voucher_id].integrity is vouchers.Integrity.CLEAR
        for each in listings
    ):
        return False
    await queries.hold_again(db, purchase_id=purchase.id)
    await vouchers.reserve(db, [each.voucher_id for each in listings])
    await _record(db, "reserved", listings, subject=purchase.id, now=now)
    return True


async def _sell(db: Db, purchases: Sequence[Purchase], *, institution: str, now: datetime) -> None:
    if not purchases:
        return
    ids = [purchase.id for purchase in purchases]
    sold: dict[str, list[Listing]] = {purchase_id: [] for purchase_id in ids}
    for listing in store.listings_of(await queries.lock_reserved(db, purchase_ids=ids)):
        sold[listing.purchase_id or ""].append(listing)
    await queries.mark_paid(db, ids=ids, now=now)
    transfers, events, facts = [], [], []
    for purchase in purchases:
        listings = sold[purchase.id]
        await vouchers.assign(
            db, [each.voucher_id for each in listings], holder_id=purchase.buyer_id, now=now
        )
        lines = [ledger.SoldLine(each.product_id, _price_of(each), each.cost_fen) for each in listings]
        transfers += ledger.postings.purchase_paid(purchase.id, institution=institution, lines=lines)
        events += [
            evidence.Event(each.voucher_id, "sold", purchase.id, {"price_fen": _price_of(each)})
            for each in listings
        ]
        facts.append(Fact(SOLD, purchase.id, _sale(purchase, listings)))
    await ledger.post(db, transfers, now=now)
    await evidence.record(db, events, now=now)
    await emit(db, facts, now=now)


def _sale(purchase: Purchase, listings: Sequence[Listing]) -> dict[str, object]:
    lines = [
        {
            "listing_id": each.id,
            "voucher_id": each.voucher_id,
            "product_id": each.product_id,
            "price_fen": each.price_fen,
            "cost_fen": each.cost_fen,
        }
        for each in listings
    ]
    return {"buyer_id": purchase.buyer_id, "total_fen": purchase.total_fen, "vouchers": lines}


async def _owe_back(
    db: Db,
    purchases: Sequence[Purchase],
    received: Mapping[str, int],
    reasons: Mapping[str, Reason],
    *,
    institution: str,
    now: datetime,
) -> None:
    """Record that payments bought nothing and have to go back to the buyers, whole."""
    if not purchases:
        return
    refunds = {
        purchase.id: Refund(
            id=new_id("rfd"),
            purchase_id=purchase.id,
            listing_id=None,
            amount_fen=received[purchase.id],
            reason=reasons[purchase.id],
            done_at=None,
        )
        for purchase in purchases
    }
    await queries.mark_refund_due(
        db,
        ids=list(refunds),
        received_fen=[refund.amount_fen for refund in refunds.values()],
        reasons=[refund.reason for refund in refunds.values()],
        now=now,
    )
    transfers = [
        transfer
        for purchase in purchases
        for transfer in ledger.postings.payment_to_return(
            refunds[purchase.id].id,
            institution=institution,
            customer_id=purchase.buyer_id,
            amount_fen=received[purchase.id],
        )
    ]
    await ledger.post(db, transfers, now=now)
    await want_refunds(db, list(refunds.values()), now=now)


async def want_refunds(db: Db, refunds: Sequence[Refund], *, now: datetime) -> None:
    """Keep refunds and have the institution asked for them."""
    await store.add_refunds(db, refunds, now=now)
    await emit(db, [Fact(REFUND_WANTED, each.id, msgspec.to_builtins(each)) for each in refunds], now=now)


async def _record(db: Db, kind: str, listings: Sequence[Listing], *, subject: str, now: datetime) -> None:
    events = [evidence.Event(each.voucher_id, kind, subject) for each in listings]
    await evidence.record(db, events, now=now)


def _is_theirs(voucher: vouchers.Voucher, buyer_id: str) -> bool:
    return (
        voucher.holder_id == buyer_id
        and voucher.custody is vouchers.Custody.ASSIGNED
        and voucher.integrity is vouchers.Integrity.CLEAR
    )


def _price_of(listing: Listing) -> int:
    assert listing.price_fen is not None, "what is for sale has a price"
    return listing.price_fen
