"""A payment channel in memory, with the fault table: what it does is fixed by the seed alone."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum

import msgspec

from quanhui.base.clock import local_day
from quanhui.base.signing import sign
from quanhui.settlement import (
    BillKind,
    BillLine,
    EventKind,
    InstitutionEvent,
    TransferOrder,
    TransferReport,
    TransferState,
)

SECRET = b"what the channel signs its callbacks with"
FORGER = b"what somebody else signs with instead"
LATE = timedelta(minutes=40)
STALE = timedelta(minutes=10)
WRONG_LINES = 5
"""Of a thousand lines of a bill, so many of each kind are wrong."""


class Fate(StrEnum):
    """What the channel has in mind for a transfer."""

    PAID = "paid"
    PAID_LATE = "paid_late"
    FAILED = "failed"
    LEFT_WAITING = "left_waiting"
    RETURNED = "returned"


class Held(msgspec.Struct):
    """A transfer as the channel has it."""

    name: str
    amount_fen: int
    state: TransferState
    reason: str | None = None
    closed: bool = False


class Message(msgspec.Struct, frozen=True):
    """A callback on its way: when it arrives, its headers and its body."""

    at: datetime
    headers: dict[str, str]
    body: bytes


class Dice:
    """Throws that depend on the seed and on what they are for, and on nothing else."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def throw(self, sides: int, *about: object) -> int:
        """A number below `sides`."""
        text = ":".join(map(str, (self._seed, *about)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % sides


class FakeChannel:
    """What settlement asks of an institution, as far as payouts and bills go.

    `names` says which transfer of which order a number is: the simulation tells, so that faults follow the
    story and not the ids.
    """

    def __init__(self, dice: Dice) -> None:
        self.names: dict[str, str] = {}
        self.trace: list[str] = []
        self.moved_fen = 0
        self.injected: set[tuple[str, str]] = set()
        self._dice = dice
        self._unheard: set[tuple[str, str]] = set()
        self._held: dict[str, Held] = {}
        self._sends: Counter[str] = Counter()
        self._plans: list[tuple[datetime, str, TransferState, str]] = []
        self._mail: list[tuple[datetime, str, Message]] = []
        self._movements: dict[date, list[tuple[str, BillKind, str, int, datetime]]] = {}
        self._bills: dict[date, list[BillLine]] = {}
        self.standing: Counter[str] = Counter()

    def name_of(self, out_no: str) -> str:
        """Order and transfer: a number is a payout's id and two digits."""
        return f"{self.names[out_no[:-2]]}/{out_no[-2:]}"

    async def send(self, orders: Sequence[TransferOrder], *, now: datetime) -> list[TransferReport]:
        """Act on each number at most once, and answer as badly as the dice say."""
        return [self._take(order, now) for order in orders]

    async def query(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How transfers stand; now and then there is no answer."""
        reports = []
        for out_no in out_nos:
            name = self.name_of(out_no)
            self._sends[f"query {name}"] += 1
            silent = self._dice.throw(100, "query", name, self._sends[f"query {name}"]) < 10  # noqa: PLR2004
            reports.append(_unknown(out_no, "no_answer") if silent else self._report(out_no))
            if not silent:
                self._unheard -= {(BillKind.RETURN, out_no), (BillKind.TRANSFER, out_no)}
            self._note(now, "query", name, reports[-1].state)
        return reports

    async def close(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """Close what its payee left waiting; some of it is paid all the same, later."""
        for out_no in out_nos:
            held = self._held.get(out_no)
            if held is None or held.state is not TransferState.AWAITING_PAYEE:
                continue
            held.state, held.reason, held.closed = TransferState.FAILED, "closed", True
            if self._dice.throw(10, "after close", held.name) < 3:  # noqa: PLR2004
                later = now + timedelta(minutes=30 + self._dice.throw(120, "after close at", held.name))
                heapq.heappush(self._plans, (later, held.name, TransferState.SUCCEEDED, out_no))
        return [self._report(out_no) for out_no in out_nos]

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """What moved on a day, with lines missing, extra, twice, or one fen wrong.

        A movement whose callback was lost when nobody asked any more is a difference in itself.
        """
        assert local_day(now) > day
        if day not in self._bills:
            self._bills[day] = self._write_bill(day)
        return self._bills[day]

    def advance(self, now: datetime) -> None:
        """Let what is due by now happen."""
        while self._plans and self._plans[0][0] <= now:
            at, _, state, out_no = heapq.heappop(self._plans)
            self._become(out_no, state, at)

    def callbacks(self, now: datetime) -> list[Message]:
        """Messages that arrive by now."""
        due = []
        while self._mail and self._mail[0][0] <= now:
            due.append(heapq.heappop(self._mail)[2])
        return due

    def _take(self, order: TransferOrder, now: datetime) -> TransferReport:
        name = self.name_of(order.out_no)
        self._sends[name] += 1
        fault = self._dice.throw(100, "send", name, self._sends[name])
        if fault < 6:  # noqa: PLR2004
            self._note(now, "send", name, "time-out before the effect")
            return _unknown(order.out_no, "no_answer")
        if order.out_no not in self._held:
            self._held[order.out_no] = Held(name, order.amount_fen, TransferState.ACCEPTED)
            self._plan(order.out_no, name, now)
        for limit, reason, said in (
            (12, "no_answer", "time-out after the effect"),
            (16, "nonsense", "reply lost"),
            (20, "http_500", "5xx after the effect"),
        ):
            if fault < limit:
                self._note(now, "send", name, said)
                return _unknown(order.out_no, reason)
        self._note(now, "send", name, "accepted")
        return self._report(order.out_no)

    def _plan(self, out_no: str, name: str, now: datetime) -> None:
        fate = self._fate(name)
        soon = now + timedelta(seconds=1 + self._dice.throw(120, "soon", name))
        late = now + timedelta(minutes=90 + self._dice.throw(1200, "late", name))
        plans = {
            Fate.PAID: [(soon, TransferState.SUCCEEDED)],
            Fate.PAID_LATE: [(late, TransferState.SUCCEEDED)],
            Fate.FAILED: [(soon, TransferState.FAILED)],
            Fate.LEFT_WAITING: [(soon, TransferState.AWAITING_PAYEE)],
            Fate.RETURNED: [(soon, TransferState.SUCCEEDED), (late, TransferState.RETURNED)],
        }
        for at, state in plans[fate]:
            heapq.heappush(self._plans, (at, name, state, out_no))

    def _fate(self, name: str) -> Fate:
        thrown = self._dice.throw(100, "fate", name)
        limits = ((78, Fate.PAID), (82, Fate.PAID_LATE), (90, Fate.FAILED), (95, Fate.LEFT_WAITING))
        return next((fate for limit, fate in limits if thrown < limit), Fate.RETURNED)

    def _become(self, out_no: str, state: TransferState, at: datetime) -> None:
        held = self._held[out_no]
        held.state = state
        if state is TransferState.FAILED:
            may_retry = self._dice.throw(10, "reason", held.name) < 6  # noqa: PLR2004
            held.reason = "institution_busy" if may_retry else "account_unusable"
        elif state is TransferState.RETURNED:
            held.reason = "account_unusable"
        self._note(at, "become", held.name, state)
        if state is TransferState.SUCCEEDED:
            self._move(BillKind.TRANSFER, out_no, held, at)
        elif state is TransferState.RETURNED:
            self._move(BillKind.RETURN, out_no, held, at)
        self._call_back(out_no, held, at)

    def _move(self, kind: BillKind, out_no: str, held: Held, at: datetime) -> None:
        order = held.name.split("/")[0]
        self.standing[order] += 1 if kind is BillKind.TRANSFER else -1
        if kind is BillKind.TRANSFER:
            self.moved_fen += held.amount_fen
        self._movements.setdefault(local_day(at), []).append((held.name, kind, out_no, held.amount_fen, at))

    def _call_back(self, out_no: str, held: Held, at: datetime) -> None:
        """Tell of it: lost, twice, late, before its predecessor, forged, or replayed."""
        kind = EventKind(f"transfer.{held.state}")
        event = InstitutionEvent(
            id=f"{held.name} {held.state}",
            kind=kind,
            out_no=out_no,
            amount_fen=held.amount_fen,
            at=at,
            reason=held.reason,
        )
        thrown = self._dice.throw(100, "callback", held.name, held.state)
        if thrown < 15:  # noqa: PLR2004
            # After success, or once it is closed, nobody asks any more: only the bill tells of it.
            if held.state is TransferState.RETURNED:
                self._unheard.add((BillKind.RETURN, out_no))
            elif held.closed:
                self._unheard.add((BillKind.TRANSFER, out_no))
            return
        arrives = at + (LATE if thrown < 30 else timedelta(seconds=self._dice.throw(30, "trip", event.id)))  # noqa: PLR2004
        self._post(event, arrives, SECRET, signed_at=arrives)
        if thrown < 50:  # noqa: PLR2004
            self._post(event, arrives + LATE, SECRET, signed_at=arrives + LATE)
        elif thrown < 60:  # noqa: PLR2004
            self._post(event, arrives + STALE, SECRET, signed_at=arrives)
        elif thrown < 70:  # noqa: PLR2004
            lie = EventKind.TRANSFER_FAILED if held.state is not TransferState.FAILED else kind
            forged = msgspec.structs.replace(event, id=f"{event.id} forged", kind=lie)
            self._post(forged, at, FORGER, signed_at=at)

    def _post(self, event: InstitutionEvent, at: datetime, secret: bytes, *, signed_at: datetime) -> None:
        body = msgspec.json.encode({"events": [event]})
        headers = sign(secret, id=event.id.replace(" ", "-"), now=signed_at, body=body)
        heapq.heappush(self._mail, (at, f"{event.id} {len(self._mail)}", Message(at, headers, body)))

    def _report(self, out_no: str) -> TransferReport:
        held = self._held.get(out_no)
        if held is None:
            return TransferReport(out_no=out_no, state=TransferState.NOT_FOUND)
        return TransferReport(
            out_no=out_no,
            state=held.state,
            reason=held.reason if held.state in _WITH_REASON else None,
            amount_fen=held.amount_fen,
        )

    def _write_bill(self, day: date) -> list[BillLine]:
        lines: list[tuple[BillKind, str, int, datetime]] = []
        for name, kind, out_no, amount_fen, at in sorted(self._movements.get(day, [])):
            thrown = self._dice.throw(1000, "bill", name, kind)
            right = (kind, out_no, amount_fen, at)
            if (kind, out_no) in self._unheard:
                self.injected.add((kind, out_no))
                lines.append(right)
                continue
            if thrown < 4 * WRONG_LINES:
                self.injected.add((kind, out_no))
            if thrown < WRONG_LINES:
                continue
            if thrown < 2 * WRONG_LINES:
                lines += [right, right]
            elif thrown < 3 * WRONG_LINES:
                lines.append((kind, out_no, amount_fen + 1, at))
            elif thrown < 4 * WRONG_LINES:
                lines.append((kind, out_no, amount_fen - 1, at))
            else:
                lines.append(right)
            if thrown >= 1000 - WRONG_LINES:
                extra = f"extra{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
                self.injected.add((kind, extra))
                lines.append((kind, extra, amount_fen, at))
        return [
            BillLine(seq=seq, kind=kind, out_no=no, institution_no=f"i{seq}", amount_fen=fen, at=at)
            for seq, (kind, no, fen, at) in enumerate(lines, 1)
        ]

    def _note(self, at: datetime, what: str, name: str, said: str) -> None:
        self.trace.append(f"{at.isoformat()} {what} {name} {said}")


_WITH_REASON = (TransferState.FAILED, TransferState.RETURNED)


def _unknown(out_no: str, reason: str) -> TransferReport:
    return TransferReport(out_no=out_no, state=TransferState.UNKNOWN, reason=reason)
