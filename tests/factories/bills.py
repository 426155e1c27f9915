"""A channel whose bill a test writes, and payouts that went through it."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from factories.payouts import opened, owed_orders

from quanhui import settlement
from quanhui.base.db import Pool, transaction
from quanhui.base.http import NoAnswer
from quanhui.base.keyring import Keyring
from quanhui.settlement import BillKind, BillLine, Payout, TransferReport, TransferState, out_no_of

CHANNEL = settlement.CUSTODIAN
TODAY = date(2026, 11, 22)
NEXT_MORNING = timedelta(hours=24)


class Channel:
    """Answers with the lines it was given for a day; a day that it does not know gets no answer."""

    def __init__(self) -> None:
        self.bills: dict[date, list[BillLine]] = {}

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        assert now
        if day not in self.bills:
            raise NoAnswer(party=CHANNEL)
        return self.bills[day]


async def paid(
    pool: Pool,
    keyring: Keyring,
    count: int,
    *,
    now: datetime,
    state: TransferState = TransferState.SUCCEEDED,
) -> list[Payout]:
    """Payouts whose transfers were called and of which the channel said this."""
    async with transaction(pool) as db:
        payouts = await opened(db, await owed_orders(db, keyring, count, now=now), now=now)
        await db.execute(
            "UPDATE settlement.attempt SET state = 'calling', channel = $1, sends = 1 WHERE state = 'new'",
            CHANNEL,
        )
    await report(pool, payouts, state, now=now)
    return payouts


async def report(pool: Pool, payouts: Sequence[Payout], state: TransferState, *, now: datetime) -> None:
    reports = [
        TransferReport(out_no=out_no_of(payout.id, 1), state=state, amount_fen=payout.amount_fen)
        for payout in payouts
    ]
    async with transaction(pool) as db:
        await settlement.record_reports(db, reports, channel=CHANNEL, now=now)


def line(
    payout: Payout, seq: int, *, at: datetime, kind: BillKind = BillKind.TRANSFER, more_fen: int = 0
) -> BillLine:
    """What a right bill says of a payout, or one that is so many fen wrong."""
    return BillLine(
        seq=seq,
        kind=kind,
        out_no=out_no_of(payout.id, 1),
        institution_no=f"ins{seq}",
        amount_fen=payout.amount_fen + more_fen,
        at=at,
    )


def lines(payouts: Sequence[Payout], *, at: datetime, first: int = 1) -> list[BillLine]:
    """A right bill of these payouts."""
    return [line(payout, seq, at=at) for seq, payout in enumerate(payouts, first)]
