"""Cancelling payouts: what was not sent, or what its channel has closed before the payee took it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui.base.access import Actor
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.settlement import store
from quanhui.settlement.errors import OwnPayout, PayoutMoved
from quanhui.settlement.gateway import TransferReport, TransferState
from quanhui.settlement.reports import record_reports
from quanhui.settlement.rules import AttemptState, Method, Payout, State, out_no_of

CANCELLED = "cancelled"


async def cancel_payouts(
    db: Db, payout_ids: Sequence[str], actor: Actor, *, note: str, now: datetime
) -> list[Payout]:
    """Cancel cash that is held, not sent yet, or awaits its payee; the money stays owed to the seller.

    One that awaits its payee is cancelled once its channel has closed the transfer: if the payee was
    quicker, they have the money. Raises `NotFound`, `OwnPayout`, and `PayoutMoved` for what was sent and may
    yet be paid, is under a flag, or is not cash.
    """
    found = await store.lock_payouts(db, payout_ids)
    if len(found) < len(set(payout_ids)):
        raise NotFound
    if any(actor.id == payout.seller_id for payout in found):
        raise OwnPayout
    sent = [payout for payout in found if payout.attempts]
    numbers = [out_no_of(payout.id, payout.attempts) for payout in sent]
    attempts = {attempt.payout_id: attempt for _, attempt in await store.lock_attempts(db, numbers)}
    held = [payout for payout in found if payout.state is State.HELD]
    unsent = [
        payout
        for payout in found
        if payout.state is State.SUBMITTED
        and attempts[payout.id].state is AttemptState.NEW
        and attempts[payout.id].channel is None
    ]
    waiting = [payout for payout in found if payout.state is State.AWAITING_PAYEE]
    fit = {p.id for p in (*held, *unsent, *waiting) if p.method is Method.CASH and p.flag is None}
    if moved := sorted({payout.id for payout in found} - fit):
        raise PayoutMoved(payouts=moved)
    gone = [msgspec.structs.replace(payout, state=State.CANCELLED) for payout in held]
    await store.move_on(db, gone, actor_id=actor.id, now=now)
    await store.ask_to_cancel(db, [*unsent, *waiting], actor_id=actor.id, note=note, now=now)
    reports = [_not_sent(payout) for payout in unsent]
    await record_reports(db, reports, channel=None, now=now)
    after = await store.find_payouts(db, payout_ids)
    return [after[payout.id] for payout in found]


def _not_sent(payout: Payout) -> TransferReport:
    out_no = out_no_of(payout.id, payout.attempts)
    return TransferReport(out_no=out_no, state=TransferState.FAILED, reason=CANCELLED)
