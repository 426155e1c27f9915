"""Verbs of payouts: open, approve, retry, hand over, and look into what went wrong.

Cash is posted user_payable → payout_pending under the transfer's own number, together with the transfer
itself and the fact that it is due. The end of a transfer posts under one key, so it can end one way only;
an unknown outcome posts nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from quanhui import customers, evidence, ledger, places, vouchers
from quanhui.base.access import Actor
from quanhui.base.db import Db
from quanhui.base.errors import NotFound, SecondPersonNeeded
from quanhui.base.ids import new_id
from quanhui.base.outbox import Fact, Job, emit
from quanhui.ledger import InsufficientBalance, postings
from quanhui.settlement import caps, store
from quanhui.settlement.errors import (
    OwnPayout,
    PayoutBlocked,
    PayoutMoved,
)
from quanhui.settlement.rules import (
    CLEARABLE,
    PAYOUT,
    Hold,
    Method,
    Payout,
    Secured,
    State,
    out_no_of,
    state_once_approved,
)
from quanhui.settlement.stored_value.limits import over_limit

TRANSFER_DUE = "settlement.transfer_due"
PAYOUT_SUCCEEDED = "settlement.payout_succeeded"
PAYOUT_FAILED = "settlement.payout_failed"
PAYOUT_HELD = "settlement.payout_held"

NO_PAYEES: Mapping[str, str] = {}


async def open_payouts(db: Db, jobs: Sequence[Job], *, now: datetime) -> None:
    """Open a payout for each order that the fact `buyback.secured` tells of, once however often it is told.

    What nothing holds goes out: cash with its first transfer, stored value at once, goods to the desk. What
    is large waits for a person, what is over the limit of the day for the next.
    Raises `InsufficientBalance` when a seller is not owed the money.
    """
    secured = [msgspec.convert(job.payload, Secured) for job in jobs]
    orders = list({order.order_id: order for order in secured}.values())
    wanted = [_new_payout(order, now) for order in orders]
    holds = await _find_holds(db, wanted)
    limits, allowance, known = await store.lock_allowance(db, wanted, now=now)
    for number, (payout, order) in enumerate(zip(wanted, orders, strict=True)):
        above = Hold.ABOVE_LIMIT if limits.approvals_for(payout.amount_fen) else None
        reason = order.hold_reason or holds.get(payout.id) or above
        if reason is None and payout.order_id not in known:
            reason = allowance.refuses(payout)
        wanted[number] = _sent_on(payout) if reason is None else _held(payout, reason, allowance, now)
    added = await store.add_payouts(db, wanted, now=now)
    await store.add_totals(db, allowance.counted, now=now)
    opened = [payout for payout in wanted if payout.id in added]
    await ledger.post(db, _postings_of([p for p in opened if p.state is not State.HELD]), now=now)
    await _tell(db, opened, now=now)


async def approve_payouts(
    db: Db,
    payout_ids: Sequence[str],
    actor: Actor,
    *,
    payees: Mapping[str, str] = NO_PAYEES,
    now: datetime,
) -> list[Payout]:
    """Let held payouts go out; `payees` names another account of the seller by payout id, where wanted.

    Raises `NotFound`, `PayoutMoved`, `OwnPayout`, and `PayoutBlocked` for what no approval can waive: an
    unverified payee, a frozen voucher, title not taken.

    Above the limits, changing the account is a change that another person approves, and one or two people
    approve who did not change it; until then it stays held, and says so. Raises `SecondPersonNeeded` for one
    who cannot be the next. Limits of the day do not stop what a person lets go.
    """
    held = await _lock(db, payout_ids, State.HELD)
    if any(actor.id == payout.seller_id for payout in held):
        raise OwnPayout
    ready = await _cleared(db, held, payees)
    limits, allowance, _ = await store.lock_allowance(db, ready, now=now)
    signed = [_signed(before, after, limits, actor) for before, after in zip(held, ready, strict=True)]
    staying = [payout for payout in signed if payout.hold_reason in _STAYS]
    going = [payout for payout in signed if payout.hold_reason not in _STAYS]
    await store.hold_payouts(db, staying, actor_id=actor.id, now=now)
    await store.approve_payouts(db, going, actor_id=actor.id, now=now)
    for payout in going:
        allowance.count(payout)
    await store.add_totals(db, allowance.counted, now=now)
    await _tell(db, staying, now=now)
    gone = {payout.id: payout for payout in await _send_on(db, going, actor_id=actor.id, now=now)}
    return [gone.get(payout.id, payout) for payout in signed]


async def retry_payouts(
    db: Db,
    payout_ids: Sequence[str],
    actor: Actor,
    *,
    payees: Mapping[str, str] = NO_PAYEES,
    now: datetime,
) -> list[Payout]:
    """Begin the next transfer of payouts that failed, expired, came back or were cancelled: a new number.

    A large one is held until another person has approved, and one never sent until somebody has. Raises as
    `approve_payouts`, and `PayoutMoved` also for a payout under a flag.
    """
    ended = await _lock(db, payout_ids, State.FAILED, State.EXPIRED, State.RETURNED, State.CANCELLED)
    if any(actor.id == payout.seller_id for payout in ended):
        raise OwnPayout
    ready = await _cleared(db, ended, payees)
    limits = await store.find_limits(db)
    asked, small = [], []
    for payout in ready:
        if limits.approvals_for(payout.amount_fen) or not payout.attempts:
            asked.append(_changed(payout, Hold.RETRY_ASKED_FOR, actor))
        else:
            small.append(payout)
    await store.hold_payouts(db, asked, actor_id=actor.id, now=now)
    await _tell(db, asked, now=now)
    return [*asked, *await _send_on(db, small, actor_id=actor.id, now=now)]


async def release_capped(db: Db, *, limit: int = 100, now: datetime) -> int:
    """Let payouts go that waited for another day, as far as the new day's limits allow; returns how many.

    What does not fit waits for the next; one that something else holds now, or that is no longer owed, is
    left to a person.
    """
    due = await store.lock_capped(db, limit=limit, now=now)
    if not due:
        return 0
    holds = await _find_holds(db, due)
    _, allowance, _ = await store.lock_allowance(db, due, now=now)
    unowed = await _not_owed(db, due)
    staying, going = [], []
    for payout in due:
        why = holds.get(payout.id) or (Hold.NOT_OWED if payout.id in unowed else None)
        reason = why or allowance.refuses(payout)
        if reason is None:
            going.append(payout)
        else:
            retry_at = None if why else caps.next_day(now)
            staying.append(msgspec.structs.replace(payout, hold_reason=reason, retry_at=retry_at))
    await store.hold_payouts(db, staying, actor_id=None, now=now)
    await store.approve_payouts(db, going, actor_id=None, now=now)
    await store.add_totals(db, allowance.counted, now=now)
    await _send_on(db, going, actor_id=None, now=now)
    return len(going)


async def retry_failed(db: Db, *, limit: int = 100, now: datetime) -> int:
    """Begin the next transfer of payouts that failed for a passing reason and have waited; returns how many.

    One that something now holds, or that is no longer owed, is left to a person.
    """
    due = await store.lock_retries(db, limit=limit, now=now)
    if not due:
        return 0
    stuck: set[str] = {*await _find_holds(db, due)}
    going = [payout for payout in due if payout.id not in stuck]
    try:
        await _send_on(db, going, actor_id=None, now=now)
    except InsufficientBalance as short:
        accounts = short.facts["accounts"]
        assert isinstance(accounts, list)
        stuck |= {payout.id for payout in going if postings.user_payable(payout.seller_id) in accounts}
    left = [payout for payout in due if payout.id in stuck]
    if left:
        await store.leave_to_people(db, sorted(stuck), now=now)
        await emit(db, [payout_failed(payout, will_retry=False) for payout in left], now=now)
    return len(due)


async def clear_flags(
    db: Db, payout_ids: Sequence[str], actor: Actor, *, note: str, now: datetime
) -> list[Payout]:
    """Take flags away after a person has looked at what the institution said; the note stays in the timeline.

    A transfer not sent yet goes out now. Raises `NotFound`, `OwnPayout`, and `PayoutMoved` without a flag or
    under one that says that too much was paid: that one stays, whatever is done about the money.
    """
    found = await _lock_all(db, payout_ids)
    _require(found, [payout for payout in found if payout.flag in CLEARABLE])
    if any(actor.id == payout.seller_id for payout in found):
        raise OwnPayout
    unsent = await store.clear_flags(db, payout_ids, actor_id=actor.id, note=note, now=now)
    await emit(db, [transfer_due(out_no) for out_no in sorted(unsent)], now=now)
    return [msgspec.structs.replace(payout, flag=None, updated_at=now) for payout in found]


async def hand_over_goods(
    db: Db, payout_ids: Sequence[str], *, store_id: str, actor_id: str, now: datetime
) -> list[Payout]:
    """A clerk has handed the goods over at a store, whose merchant is now owed for them.

    Raises `NotFound`, also for money and for what waits at another store, and then `PayoutMoved`.
    """
    for payout in await _lock_all(db, payout_ids):
        if payout.method is not Method.GOODS or payout.store_id not in (None, store_id):
            raise NotFound
    waiting = await _lock(db, payout_ids, State.AWAITING_PAYEE)
    found = await places.get_stores(db, [store_id])
    if not found:
        raise NotFound
    done = [
        msgspec.structs.replace(payout, state=State.SUCCEEDED, store_id=store_id, updated_at=now)
        for payout in waiting
    ]
    await store.move_on(db, done, actor_id=actor_id, now=now)
    transfers = [
        transfer
        for payout in done
        for transfer in postings.goods_handover(
            payout.id, merchant_id=found[0].merchant_id, amount_fen=payout.amount_fen
        )
    ]
    await ledger.post(db, transfers, now=now)
    await _tell(db, done, now=now)
    return done


async def record_success(db: Db, payouts: Sequence[Payout], *, now: datetime) -> None:
    """Append to the path of every voucher of these payouts that its seller was paid."""
    events = [
        evidence.Event(
            voucher_id,
            "payout_succeeded",
            payout.order_id,
            {"payout_id": payout.id, "method": str(payout.method), "order_amount_fen": payout.amount_fen},
        )
        for payout in payouts
        for voucher_id in payout.voucher_ids
    ]
    if events:
        await evidence.record(db, events, now=now)


def transfer_due(out_no: str) -> Fact:
    """The fact that a transfer is to be sent."""
    return Fact(TRANSFER_DUE, out_no, {"out_no": out_no})


def _new_payout(order: Secured, now: datetime) -> Payout:
    return Payout(
        id=new_id("pot"),
        order_id=order.order_id,
        seller_id=order.seller_id,
        payee_id=order.payee_id,
        method=order.method,
        amount_fen=order.net_fen,
        state=State.CREATED,
        store_id=order.store_id,
        voucher_ids=order.voucher_ids,
        created_at=now,
        updated_at=now,
    )


def payout_failed(payout: Payout, *, will_retry: bool) -> Fact:
    """The fact that a transfer of a payout failed, expired, or will not be tried again by itself."""
    return fact_of(PAYOUT_FAILED, payout, reason=payout.failure, will_retry=will_retry)


def fact_of(topic: str, payout: Payout, **more: object) -> Fact:
    """A fact about a payout."""
    return Fact(topic, payout.id, {"order_id": payout.order_id, "payout_id": payout.id, **more})


async def _find_holds(db: Db, payouts: Sequence[Payout]) -> dict[str, Hold]:
    """What keeps payouts from going out whoever approves, by payout id (invariants 9 and 12)."""
    sellers = await customers.customers(db, sorted({payout.seller_id for payout in payouts}))
    payees = await customers.payees(db, sorted({payout.payee_id for payout in payouts if payout.payee_id}))
    ids = sorted({voucher_id for payout in payouts for voucher_id in payout.voucher_ids})
    found = await vouchers.find_vouchers(db, ids)
    holds = {}
    for payout in payouts:
        seller, payee = sellers.get(payout.seller_id), payees.get(payout.payee_id or "")
        hold = _hold_of_person(payout, seller, payee) or _hold_of_vouchers(payout, found)
        if hold:
            holds[payout.id] = hold
    going = [payout for payout in payouts if payout.id not in holds]
    # One instant a batch; the limit is that of the day.
    over = await over_limit(db, going, now=max(payout.updated_at for payout in going)) if going else set()
    return holds | dict.fromkeys(over, Hold.STORED_VALUE_LIMIT)


def _hold_of_person(
    payout: Payout, seller: customers.Customer | None, payee: customers.Payee | None
) -> Hold | None:
    if seller is not None and seller.status is customers.Status.SUSPENDED:
        return Hold.SELLER_SUSPENDED
    if payout.method is not Method.CASH:
        return None
    verified = seller is not None and seller.identity_level is customers.IdentityLevel.VERIFIED
    own = payee is not None and payee.customer_id == payout.seller_id and payee.closed_at is None
    return None if verified and own else Hold.PAYEE_UNVERIFIED


def _hold_of_vouchers(payout: Payout, found: Mapping[str, vouchers.Voucher]) -> Hold | None:
    ours = [found.get(voucher_id) for voucher_id in payout.voucher_ids]
    if any(voucher is None or voucher.custody in _NOT_OURS_YET for voucher in ours):
        return Hold.TITLE_NOT_TAKEN
    if any(voucher.integrity in _FROZEN for voucher in ours if voucher):
        return Hold.VOUCHER_FROZEN
    return None


_NOT_OURS_YET = (vouchers.Custody.SELLER_HELD, vouchers.Custody.CLAIMED, vouchers.Custody.RETURNED)
_FROZEN = (vouchers.Integrity.FROZEN, vouchers.Integrity.VOID)


async def _cleared(db: Db, payouts: Sequence[Payout], payees: Mapping[str, str]) -> list[Payout]:
    ready = [
        msgspec.structs.replace(payout, payee_id=payees.get(payout.id, payout.payee_id)) for payout in payouts
    ]
    holds = await _find_holds(db, ready)
    if holds:
        raise PayoutBlocked(reasons={payout_id: str(hold) for payout_id, hold in sorted(holds.items())})
    return ready


async def _not_owed(db: Db, payouts: Sequence[Payout]) -> set[str]:
    """Those whose sellers are no longer owed the money: it was taken back, or went another way."""
    codes = {payout.id: postings.user_payable(payout.seller_id) for payout in payouts}
    found = await ledger.balances(db, sorted(set(codes.values())))
    left = {code: balance.balance_fen for code, balance in found.items()}
    unowed = set()
    for payout in payouts:
        code = codes[payout.id]
        if left.get(code, 0) < payout.amount_fen:
            unowed.add(payout.id)
        else:
            left[code] -= payout.amount_fen
    return unowed


async def _lock_all(db: Db, payout_ids: Sequence[str]) -> list[Payout]:
    found = await store.lock_payouts(db, payout_ids)
    if len(found) < len(set(payout_ids)):
        raise NotFound
    return found


async def _lock(db: Db, payout_ids: Sequence[str], *states: State) -> list[Payout]:
    found = await _lock_all(db, payout_ids)
    _require(found, [payout for payout in found if payout.state in states and payout.flag is None])
    return found


def _require(payouts: Sequence[Payout], fit: Sequence[Payout]) -> None:
    moved = sorted({payout.id for payout in payouts} - {payout.id for payout in fit})
    if moved:
        raise PayoutMoved(payouts=moved)


def _held(payout: Payout, reason: str, allowance: caps.Allowance, now: datetime) -> Payout:
    """A new payout that waits: for a person, or, where only a day's limit is in the way, for the next day."""
    tomorrow = reason in _OF_THE_DAY and not allowance.never_fits(payout)
    return msgspec.structs.replace(
        payout,
        state=State.HELD,
        hold_reason=reason,
        retry_at=caps.next_day(now) if tomorrow else None,
    )


def _signed(before: Payout, after: Payout, limits: caps.Limits, actor: Actor) -> Payout:
    """A held payout after a person approved it, perhaps with another account; it stays held for another."""
    needed = limits.approvals_for(after.amount_fen)
    if not needed:
        return msgspec.structs.replace(after, hold_reason=None)
    if after.payee_id != before.payee_id:
        return _changed(after, Hold.PAYEE_CHANGED, actor)
    if actor.id == after.changed_by or actor.id in after.approvals:
        raise SecondPersonNeeded
    approvals = (*after.approvals, actor.id)
    reason = Hold.SECOND_APPROVAL if len(approvals) < needed else None
    return msgspec.structs.replace(after, approvals=approvals, hold_reason=reason, retry_at=None)


def _changed(payout: Payout, reason: Hold, actor: Actor) -> Payout:
    """A large payout as somebody made it: whoever looked before has not seen this."""
    return msgspec.structs.replace(
        payout,
        state=State.HELD,
        hold_reason=reason,
        changed_by=actor.id,
        approvals=(),
        retry_at=None,
        cancelled_by=None,
    )


_STAYS = (Hold.PAYEE_CHANGED, Hold.SECOND_APPROVAL)
_OF_THE_DAY = (Hold.PLATFORM_DAY_LIMIT, Hold.PAYEE_DAY_LIMIT)


def _sent_on(payout: Payout) -> Payout:
    """A payout as it goes out: cash with one transfer more."""
    state = state_once_approved(payout.method)
    assert PAYOUT.may(State.APPROVED, state)
    return msgspec.structs.replace(
        payout,
        state=state,
        attempts=payout.attempts + (payout.method is Method.CASH),
        failure=None,
        retry_at=None,
    )


async def _send_on(db: Db, payouts: Sequence[Payout], *, actor_id: str | None, now: datetime) -> list[Payout]:
    going = [msgspec.structs.replace(_sent_on(payout), updated_at=now) for payout in payouts]
    await ledger.post(db, _postings_of(going), now=now)
    await store.move_on(db, going, actor_id=actor_id, now=now)
    await _tell(db, going, now=now)
    return going


async def _tell(db: Db, payouts: Sequence[Payout], *, now: datetime) -> None:
    """Tell whom new states concern: the sender of transfers, people who decide, everybody that it is done."""
    facts = []
    for payout in payouts:
        if payout.state is State.SUBMITTED:
            facts.append(transfer_due(out_no_of(payout.id, payout.attempts)))
        elif payout.state is State.HELD:
            facts.append(fact_of(PAYOUT_HELD, payout, reason=payout.hold_reason))
        elif payout.state is State.SUCCEEDED:
            facts.append(fact_of(PAYOUT_SUCCEEDED, payout))
    await record_success(db, [payout for payout in payouts if payout.state is State.SUCCEEDED], now=now)
    if facts:
        await emit(db, facts, now=now)


def _postings_of(payouts: Sequence[Payout]) -> list[ledger.Transfer]:
    """What goes out. The subject of cash is its transfer, so that each attempt posts for itself."""
    transfers = []
    for payout in payouts:
        seller_id, amount_fen = payout.seller_id, payout.amount_fen
        if payout.method is Method.STORED_VALUE:
            transfers += postings.stored_value_topup(payout.id, customer_id=seller_id, amount_fen=amount_fen)
        else:
            cash = payout.method is Method.CASH
            subject = out_no_of(payout.id, payout.attempts) if cash else payout.id
            transfers += postings.payout_sent(subject, customer_id=seller_id, amount_fen=amount_fen)
    return transfers
