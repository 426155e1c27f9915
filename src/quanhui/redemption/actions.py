"""Spending a voucher: authorise, capture, or let go again.

For vouchers of our own issue the registry is the issuer, and `redeem` does it all at once. For those of an
outside issuer `redeem` sets the amount aside here and leaves the redemption waiting; a task asks the issuer
under the redemption's own id, as often as it takes to know, and `conclude` captures or voids it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui import evidence, ledger, vouchers
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Fact, emit
from quanhui.catalogue import Catalogue, RedeemOutcome, WithoutCodes
from quanhui.redemption import store
from quanhui.redemption.errors import AmountTooHigh, NotAuthorised, TillReferenceUsed, WholeValueOnly
from quanhui.redemption.recognition import Usable, find_usable
from quanhui.redemption.rules import (
    ASK_AGAIN_AFTER,
    AUTHORISED_FOR,
    Reason,
    Redemption,
    Refusal,
    State,
    Till,
)
from quanhui.redemption.store import queries
from quanhui.vouchers import Spend

CAPTURED = "redemption.captured"
OUTCOME_UNKNOWN = "redemption.outcome_unknown"

BATCH = 200


class Presented(WithoutCodes, frozen=True, kw_only=True):
    """A code shown at a till. `amount_fen` None means all that is left.

    The same `request_key` of an operator is the same request; `till_reference` is the till's own number for
    the sale, and a store uses each once.
    """

    code: str
    amount_fen: int | None
    request_key: str
    till_reference: str | None = None


async def redeem(
    db: Db, keyring: Keyring, catalogue: Catalogue, shown: Presented, till: Till, *, now: datetime
) -> Redemption:
    """Spend a voucher: captured at once if it is of our own issue, else waiting for its issuer.

    Raises `VoucherNotUsable`, `TooManyAttempts`, `AmountTooHigh`, `WholeValueOnly`, `TillReferenceUsed`.
    """
    usable = await find_usable(db, keyring, catalogue, shown.code, till, now=now)
    redemption = await _authorise(db, usable, shown, till, ttl=AUTHORISED_FOR, now=now)
    if usable.voucher.own_issue:
        redemption = msgspec.structs.replace(
            redemption, state=State.CAPTURED, captured_fen=redemption.authorised_fen, captured_at=now
        )
    else:
        redemption = msgspec.structs.replace(redemption, awaits_issuer=True, asked_at=now)
    await _add(db, redemption)
    if redemption.state is State.CAPTURED:
        await _spend(db, redemption, now=now)
    return redemption


async def resume(db: Db, till: Till, request_key: str) -> Redemption | None:
    """What this operator began under a key before, for a till that repeats its request."""
    row = await queries.find_by_request(db, operator_id=till.operator_id, request_key=request_key)
    return row and store.redemption_of(row)


async def authorise(
    db: Db,
    keyring: Keyring,
    catalogue: Catalogue,
    shown: Presented,
    till: Till,
    *,
    ttl: timedelta = AUTHORISED_FOR,
    now: datetime,
) -> Redemption:
    """Set an amount of a voucher of our own issue aside until `now + ttl`, to capture it or a part later.

    Raises as `redeem`; vouchers of outside issuers are not usable in this way.
    """
    usable = await find_usable(db, keyring, catalogue, shown.code, till, now=now)
    if not usable.voucher.own_issue:
        raise usable.refused(Reason.NOT_HELD, till)
    redemption = await _authorise(db, usable, shown, till, ttl=ttl, now=now)
    await _add(db, redemption)
    return redemption


async def capture(db: Db, redemption_id: str, *, amount_fen: int | None = None, now: datetime) -> Redemption:
    """Spend what was set aside, or a part of it; the rest is free again.

    Raises `NotFound`, `NotAuthorised` once the time is over or it was captured, `AmountTooHigh`.
    """
    redemption = await _lock_authorised(db, redemption_id, now=now)
    captured_fen = redemption.authorised_fen if amount_fen is None else amount_fen
    if not 0 < captured_fen <= redemption.authorised_fen:
        raise AmountTooHigh(available_fen=redemption.authorised_fen)
    captured = msgspec.structs.replace(
        redemption, state=State.CAPTURED, captured_fen=captured_fen, captured_at=now
    )
    await queries.mark_captured(db, ids=[captured.id], captured_fen=[captured_fen], now=now)
    await _spend(db, captured, now=now)
    return captured


async def void(db: Db, redemption_id: str, *, now: datetime) -> Redemption:
    """Let go of what was set aside. Raises `NotFound`, `NotAuthorised`."""
    redemption = await _lock_authorised(db, redemption_id, now=now)
    await _let_go(db, [redemption], state=State.VOIDED)
    return msgspec.structs.replace(redemption, state=State.VOIDED)


async def conclude(db: Db, outcomes: Mapping[str, RedeemOutcome], *, now: datetime) -> None:
    """What outside issuers answered, by redemption id: captured, or voided with the reason kept inside.

    A redemption that is not waiting any more is passed over. A voucher frozen meanwhile raises
    `CustodyChanged`: the issuer has drawn on it, so it waits until it is released.
    """
    waiting = [each for each in await store.lock(db, list(outcomes)) if each.awaits_issuer]
    for redemption in waiting:
        if outcomes[redemption.id].ok:
            captured = msgspec.structs.replace(
                redemption, state=State.CAPTURED, captured_fen=redemption.authorised_fen, captured_at=now
            )
            await queries.mark_captured(db, ids=[captured.id], captured_fen=[captured.captured_fen], now=now)
            await _spend(db, captured, now=now)
    refused = [each for each in waiting if not outcomes[each.id].ok]
    if refused:
        reasons = {each.id: outcomes[each.id].reason or "refused" for each in refused}
        await _let_go(db, refused, state=State.VOIDED, reasons=reasons)
        await store.add_refusals(db, [_refusal(each, reasons[each.id]) for each in refused], now=now)


async def sweep_authorisations(db: Db, *, limit: int = BATCH, now: datetime) -> int:
    """Let go of amounts nobody captured in time, and have silent issuers asked again; returns how many."""
    rows = await queries.lock_lapsed(db, now=now, limit=limit)
    lapsed = [store.redemption_of(row) for row in rows]
    if lapsed:
        await _let_go(db, lapsed, state=State.LAPSED)
    asking = await queries.ask_again(db, asked_before=now - ASK_AGAIN_AFTER, limit=limit, now=now)
    await emit(db, [Fact(OUTCOME_UNKNOWN, row["id"]) for row in asking], now=now)
    return len(lapsed) + len(asking)


async def mark_settled(db: Db, redemption_ids: Sequence[str], *, now: datetime) -> int:
    """The merchants have been paid for these; returns how many that was news for."""
    count: int = await queries.mark_settled(db, ids=sorted(redemption_ids), now=now)
    return count


async def check(
    db: Db, keyring: Keyring, catalogue: Catalogue, code: str, till: Till, *, now: datetime
) -> Usable:
    """What a code is worth at this till; changes nothing. Raises as `redeem`, under the same limits."""
    return await find_usable(db, keyring, catalogue, code, till, now=now)


async def find_redemptions(db: Db, redemption_ids: Sequence[str]) -> list[Redemption]:
    """Redemptions by id, in the order of their ids; unknown ones are absent."""
    return await store.find(db, redemption_ids)


async def _authorise(
    db: Db, usable: Usable, shown: Presented, till: Till, *, ttl: timedelta, now: datetime
) -> Redemption:
    """Set the amount aside in the registry. The redemption is not kept yet."""
    voucher = usable.voucher
    amount_fen = voucher.available_fen if shown.amount_fen is None else shown.amount_fen
    if amount_fen > voucher.available_fen:
        raise AmountTooHigh(available_fen=voucher.available_fen)
    if amount_fen < voucher.available_fen and not usable.product.multi_draw:
        raise WholeValueOnly(available_fen=voucher.available_fen)
    try:
        await vouchers.authorise(db, [Spend(voucher.id, amount_fen)], now=now)
    except vouchers.CannotSpend as error:
        raise usable.refused(Reason.TAKEN_MEANWHILE, till) from error
    return Redemption(
        id=new_id("rdm"),
        voucher_id=voucher.id,
        product_id=voucher.product_id,
        issuer_id=voucher.issuer_id,
        own_issue=voucher.own_issue,
        holder_id=voucher.holder_id,
        store_id=till.store_id,
        merchant_id=till.merchant_id,
        operator_id=till.operator_id,
        request_key=shown.request_key,
        till_reference=shown.till_reference,
        state=State.AUTHORISED,
        authorised_fen=amount_fen,
        expires_at=now + ttl,
        created_at=now,
    )


async def _add(db: Db, redemption: Redemption) -> None:
    if await store.add(db, redemption):
        return
    row = await queries.find_by_till_reference(
        db, store_id=redemption.store_id, till_reference=redemption.till_reference
    ) or await queries.find_by_request(
        db, operator_id=redemption.operator_id, request_key=redemption.request_key
    )
    raise TillReferenceUsed(redemption_id=row and row["id"])


async def _spend(db: Db, captured: Redemption, *, now: datetime) -> None:
    await vouchers.capture(
        db,
        [Spend(captured.voucher_id, captured.authorised_fen)],
        [Spend(captured.voucher_id, captured.captured_fen)],
    )
    event = evidence.Event(
        captured.voucher_id,
        "redeemed",
        captured.id,
        {"amount_fen": captured.captured_fen, "store_id": captured.store_id},
    )
    await evidence.record(db, [event], now=now)
    payload = {
        "voucher_id": captured.voucher_id,
        "product_id": captured.product_id,
        "issuer_id": captured.issuer_id,
        "merchant_id": captured.merchant_id,
        "store_id": captured.store_id,
        "amount_fen": captured.captured_fen,
    }
    await emit(db, [Fact(CAPTURED, captured.id, payload)], now=now)
    # Last, because the merchant's account is locked from here to the commit, and every till needs it.
    transfers = ledger.postings.redemption_captured(
        captured.id,
        issuer_id=captured.issuer_id,
        merchant_id=captured.merchant_id,
        amount_fen=captured.captured_fen,
    )
    await ledger.post(db, transfers, now=now)


async def _lock_authorised(db: Db, redemption_id: str, *, now: datetime) -> Redemption:
    found = await store.lock(db, [redemption_id])
    if not found:
        raise NotFound
    redemption = found[0]
    if redemption.state is not State.AUTHORISED or redemption.awaits_issuer or redemption.expires_at <= now:
        raise NotAuthorised(state=redemption.state)
    return redemption


async def _let_go(
    db: Db, redemptions: Sequence[Redemption], *, state: State, reasons: Mapping[str, str] | None = None
) -> None:
    """End authorisations; several may be of one voucher, so amounts are summed by voucher."""
    held: Counter[str] = Counter()
    for redemption in redemptions:
        held[redemption.voucher_id] += redemption.authorised_fen
    await vouchers.unauthorise(db, [Spend(voucher_id, held[voucher_id]) for voucher_id in sorted(held)])
    ids = [redemption.id for redemption in redemptions]
    refusals = [(reasons or {}).get(redemption_id) for redemption_id in ids]
    await queries.mark_ended(db, ids=ids, state=state, refusals=refusals)


def _refusal(redemption: Redemption, reason: str) -> Refusal:
    return Refusal(
        reason=reason,
        fingerprint=None,
        store_id=redemption.store_id,
        operator_id=redemption.operator_id,
    )
