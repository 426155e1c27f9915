"""When a buyer complains 售后: the voucher is frozen until someone has decided."""

from collections.abc import Sequence
from datetime import datetime

from quanhui import evidence, ledger, vouchers
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.base.outbox import Fact, emit
from quanhui.redistribution import store
from quanhui.redistribution.errors import NotDisputable, NotInDispute
from quanhui.redistribution.purchases import lock_purchase_of, lock_sold, want_refunds
from quanhui.redistribution.rules import LISTING, Decision, Listing, ListingState, Reason, Refund
from quanhui.redistribution.store import queries
from quanhui.vouchers import Integrity

DISPUTED = "redistribution.disputed"
DISPUTE_DECIDED = "redistribution.dispute_decided"

FREEZABLE = (Integrity.CLEAR, Integrity.SUSPECT)
"""A voucher that risk control has frozen or voided already stays as it is, whatever comes of the dispute."""


async def open_dispute(
    db: Db,
    purchase_id: str,
    listing_ids: Sequence[str],
    *,
    buyer_id: str,
    actor_id: str,
    reason: str,
    now: datetime,
) -> None:
    """Complain about listings of one's purchase; their vouchers are frozen, so that nobody spends them.

    Raises `NotFound` for a stranger's, and `NotDisputable` when the guarantee is over or the listing was
    complained about before.
    """
    await lock_purchase_of(db, purchase_id, buyer_id=buyer_id)
    listings = await lock_sold(db, purchase_id, listing_ids)
    ids = [each.id for each in listings]
    before = {row["listing_id"] for row in await queries.disputed_before(db, ids=ids)}
    barred = [
        each.id
        for each in listings
        if each.id in before
        or not LISTING.may(each.state, ListingState.DISPUTED)
        or (each.guarantee_until is not None and each.guarantee_until <= now)
    ]
    if barred or not listings:
        raise NotDisputable(listings=barred)
    known = await vouchers.find_vouchers(db, [each.voucher_id for each in listings])
    froze = [known[each.voucher_id].integrity in FREEZABLE for each in listings]
    freezing = [each.voucher_id for each, freeze in zip(listings, froze, strict=True) if freeze]
    if freezing:
        await vouchers.set_integrity(db, freezing, Integrity.FROZEN)
    await queries.open_disputes(db, ids=ids, froze=froze, reason=reason, actor_id=actor_id, now=now)
    await _record(db, "disputed", listings, purchase_id, now=now)
    facts = [Fact(DISPUTED, each.id, {"voucher_id": each.voucher_id}) for each in listings]
    await emit(db, facts, now=now)


async def decide_dispute(
    db: Db, listing_id: str, decision: Decision, *, actor_id: str, note: str, now: datetime
) -> Listing:
    """Give the buyer their money back and void the voucher, or uphold the sale and release it.

    Raises `NotInDispute`.
    """
    row = await queries.decide_dispute(
        db, listing_id=listing_id, decision=decision, note=note, actor_id=actor_id, now=now
    )
    if row is None:
        raise NotInDispute
    listing = store.listing_of(row)
    assert listing.purchase_id is not None, "only what was bought is disputed"
    purchase = (await store.lock_purchases(db, [listing.purchase_id]))[0]
    if decision is Decision.REFUNDED:
        await _void(db, listing.voucher_id)
        await _owe_back(db, listing, buyer_id=purchase.buyer_id, now=now)
    elif row["froze"]:
        await vouchers.set_integrity(db, [listing.voucher_id], Integrity.CLEAR)
    await _record(db, f"dispute_{decision}", [listing], listing.purchase_id, now=now)
    payload = {
        "voucher_id": listing.voucher_id,
        "order_id": listing.order_id,
        "decision": decision,
        "price_fen": listing.price_fen,
    }
    await emit(db, [Fact(DISPUTE_DECIDED, listing.id, payload)], now=now)
    return listing


async def _void(db: Db, voucher_id: str) -> None:
    known = await vouchers.find_vouchers(db, [voucher_id])
    if known[voucher_id].integrity is not Integrity.VOID:
        await vouchers.set_integrity(db, [voucher_id], Integrity.VOID)


async def _owe_back(db: Db, listing: Listing, *, buyer_id: str, now: datetime) -> None:
    assert listing.purchase_id is not None
    assert listing.price_fen is not None
    refund = Refund(
        id=new_id("rfd"),
        purchase_id=listing.purchase_id,
        listing_id=listing.id,
        amount_fen=listing.price_fen,
        reason=Reason.DISPUTE,
        done_at=None,
    )
    transfers = ledger.postings.sale_taken_back(refund.id, customer_id=buyer_id, price_fen=listing.price_fen)
    await ledger.post(db, transfers, now=now)
    await want_refunds(db, [refund], now=now)


async def _record(db: Db, kind: str, listings: Sequence[Listing], subject: str, *, now: datetime) -> None:
    events = [evidence.Event(each.voucher_id, kind, subject) for each in listings]
    await evidence.record(db, events, now=now)
