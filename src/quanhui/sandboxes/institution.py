"""A payment institution 支付机构: pays payees, collects from buyers, refunds; told once, done once.

An instruction is known by its kind and the platform's number `out_no`. What will become of it is laid
down when it is taken, as a plan of moves with their delays, and each move happens in one commit
with the money that it moves and the callback that tells of it.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from quanhui.base import clock
from quanhui.sandboxes import callbacks
from quanhui.sandboxes.callbacks import Event
from quanhui.sandboxes.faults import FaultKind, FaultTable, delay_of
from quanhui.sandboxes.store import Refusal, Store

SCHEMA = (
    callbacks.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS instruction (
    no INTEGER PRIMARY KEY, kind TEXT NOT NULL, out_no TEXT NOT NULL, content BLOB NOT NULL,
    amount_fen INTEGER NOT NULL CHECK (amount_fen > 0), party TEXT NOT NULL, callback_url TEXT,
    state TEXT NOT NULL, reason TEXT, at REAL NOT NULL, hidden INTEGER NOT NULL,
    plan BLOB NOT NULL, next_at REAL,
    UNIQUE (kind, out_no)
);
CREATE INDEX IF NOT EXISTS instruction_next ON instruction (next_at) WHERE next_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS movement (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, out_no TEXT NOT NULL,
    institution_no TEXT NOT NULL, party TEXT NOT NULL, amount_fen INTEGER NOT NULL, billed_fen INTEGER
);
CREATE INDEX IF NOT EXISTS movement_at ON movement (at, seq);
"""
)

TICK_S = 0.02
MOVED_AT_ONCE = 500
BILL_PAGE = 5_000
PAYEE_MAY_WAIT_S = 86_400.0
USUAL_FAULT_DELAY_S = 1.0


class Kind(StrEnum):
    """What an instruction is."""

    TRANSFER = "transfer"
    PAYMENT = "payment"
    REFUND = "refund"


class Step(msgspec.Struct, frozen=True):
    """One move still to come: after how long, to which state, why."""

    after_s: float
    state: str
    reason: str | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction as it comes in. `party` is who receives or pays, `content` what must stay the same."""

    kind: Kind
    out_no: str
    amount_fen: int
    party: str
    content: bytes
    callback_url: str | None


class View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the institution says of an instruction."""

    out_no: str
    state: str
    reason: str | None = None
    institution_no: str | None = None
    amount_fen: int | None = None
    at: datetime | None = None


class BillLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a day's bill. `kind` is transfer, return, payment or refund."""

    seq: int
    kind: str
    out_no: str
    institution_no: str
    amount_fen: int
    at: datetime


# The kind of movement that reaching a state means, if money moves then.
MOVEMENTS = {
    (Kind.TRANSFER, "succeeded"): "transfer",
    (Kind.TRANSFER, "returned"): "return",
    (Kind.PAYMENT, "succeeded"): "payment",
    (Kind.REFUND, "succeeded"): "refund",
}
CLOSABLE = {Kind.TRANSFER: ("accepted", "awaiting_payee"), Kind.PAYMENT: ("pending",)}
CLOSED = {Kind.TRANSFER: "failed", Kind.PAYMENT: "closed"}


class Institution:
    """A party's books, kept under its `name`.

    `settle_s` is how long a transfer or refund takes when nothing goes wrong; `tells` which events the
    party has callbacks for.
    """

    def __init__(
        self,
        state: Path,
        faults: FaultTable,
        *,
        settle_s: float,
        callback_url: str | None,
        name: str = "institution",
        tells: Callable[[Event], bool] = lambda _: True,
    ) -> None:
        self.store = Store(state / f"{name}.sqlite", SCHEMA)
        self._faults = faults
        self._settle_s = settle_s
        self._callback_url = callback_url
        self._tells = tells

    async def take(self, order: Order, first_state: str, expires_at: datetime | None = None) -> View:
        """Take an instruction, or say how it stands. Raises `Refusal` 409 for other content."""

        def take_one(db: sqlite3.Connection) -> View:
            row = _find(db, order.kind, order.out_no)
            if row is None:
                return self._take_new(db, order, first_state, expires_at)
            if row["content"] != order.content:
                raise Refusal(409, "out_no_reused")
            return _view(row)

        return await self.store.write(take_one)

    async def query(self, kind: Kind, out_nos: list[str]) -> list[View]:
        """How instructions stand. A hidden one is nearer to being seen after each query."""

        def query_one(db: sqlite3.Connection, out_no: str) -> View:
            row = _find(db, kind, out_no)
            if row is None:
                return View(out_no=out_no, state="not_found")
            if row["hidden"]:
                db.execute("UPDATE instruction SET hidden = hidden - 1 WHERE no = ?", (row["no"],))
                if row["hidden"] == 1 and row["state"] != "accepted":
                    self._tell(db, row, row["state"], row["reason"], row["at"])
            return _view(row)

        return await self.store.write(lambda db: [query_one(db, out_no) for out_no in out_nos])

    async def close(self, kind: Kind, out_nos: list[str]) -> list[View]:
        """Close what has not been paid; what has stays as it is, and the answer says so."""

        def close_one(db: sqlite3.Connection, out_no: str) -> View:
            row = _find(db, kind, out_no)
            if row is None:
                return View(out_no=out_no, state="not_found")
            if row["state"] not in CLOSABLE[kind]:
                return _view(row)
            fault = self._faults.draw(FaultKind.SUCCESS_AFTER_CLOSE, out_no)
            plan = [Step(delay_of(fault, USUAL_FAULT_DELAY_S), "succeeded")] if fault else []
            self._move(db, row, Step(0, CLOSED[kind], "closed"), plan)
            return _view(_found(db, kind, out_no))

        return await self.store.write(lambda db: [close_one(db, out_no) for out_no in out_nos])

    async def pay(self, out_no: str) -> View:
        """The buyer pays. Raises `Refusal` 409 when there is nothing to pay."""
        return await self._confirm(Kind.PAYMENT, out_no, "pending")

    async def confirm_payee(self, out_no: str) -> View:
        """The payee taps to receive. Raises `Refusal` 409 when nobody waits for that."""
        return await self._confirm(Kind.TRANSFER, out_no, "awaiting_payee")

    async def refund(self, order: Order) -> View:
        """Take a refund of the payment that `party` names. Raises `Refusal` 409 beyond what was paid."""

        def take_one(db: sqlite3.Connection) -> View:
            row = _find(db, Kind.REFUND, order.out_no)
            if row is not None:
                if row["content"] != order.content:
                    raise Refusal(409, "out_no_reused")
                return _view(row)
            payment = _find(db, Kind.PAYMENT, order.party)
            if payment is None or payment["state"] != "succeeded":
                raise Refusal(409, "payment_not_succeeded")
            refunded = db.execute(
                "SELECT coalesce(sum(amount_fen), 0) FROM instruction"
                " WHERE kind = 'refund' AND party = ? AND state <> 'failed'",
                (order.party,),
            ).fetchone()[0]
            if refunded + order.amount_fen > payment["amount_fen"]:
                raise Refusal(409, "refund_exceeds_payment")
            return self._take_new(db, order, "accepted", None)

        return await self.store.write(take_one)

    def bill(self, day: date, after: int) -> list[BillLine]:
        """A page of a Shanghai day's bill, after a line's `seq`."""
        end = clock.end_of_local_day(day)
        start = clock.end_of_local_day(day - timedelta(days=1))
        rows = self.store.read(
            lambda db: db.execute(
                "SELECT * FROM movement WHERE at >= ? AND at < ? AND seq > ? AND billed_fen IS NOT NULL"
                " ORDER BY seq LIMIT ?",
                (start.timestamp(), end.timestamp(), after, BILL_PAGE),
            ).fetchall()
        )
        return [
            BillLine(
                seq=row["seq"],
                kind=row["kind"],
                out_no=row["out_no"],
                institution_no=row["institution_no"],
                amount_fen=row["billed_fen"],
                at=datetime.fromtimestamp(row["at"], UTC),
            )
            for row in rows
        ]

    async def run(self) -> None:
        """Make the moves that are due, for ever."""
        while True:
            if self.store.read(_due):
                await self.store.write(self._move_due)
            await asyncio.sleep(TICK_S)

    def _take_new(
        self, db: sqlite3.Connection, order: Order, first_state: str, expires_at: datetime | None
    ) -> View:
        now = time.time()
        plan = self._plan(order, None if expires_at is None else expires_at.timestamp() - now)
        hide = self._faults.draw(FaultKind.UNKNOWN, order.out_no) if order.kind is Kind.TRANSFER else None
        url = order.callback_url or self._callback_url
        db.execute(
            "INSERT INTO instruction (kind, out_no, content, amount_fen, party, callback_url, state, at,"
            " hidden, plan, next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (order.kind, order.out_no, order.content, order.amount_fen, order.party, url, first_state, now,
             hide.times if hide else 0, msgspec.json.encode(plan), now + plan[0].after_s),
        )  # fmt: skip
        row = _found(db, order.kind, order.out_no)
        if url is not None:
            callbacks.queue_forged(db, self._faults, url, _event(row, "succeeded", None, now))
        return _view(row)

    def _plan(self, order: Order, open_s: float | None) -> list[Step]:
        if order.kind is Kind.PAYMENT:
            assert open_s is not None
            return [Step(open_s, "closed", "expired")]
        if order.kind is Kind.REFUND:
            return [Step(self._settle_s, "succeeded")]
        text = f"{order.out_no} {order.party}"
        if fault := self._faults.draw(FaultKind.FAIL, text):
            return [Step(self._settle_s, "failed", fault.reason)]
        plan = [Step(self._settle_s, "succeeded")]
        if fault := self._faults.draw(FaultKind.AWAITING_PAYEE, text):
            never = Step(PAYEE_MAY_WAIT_S, "failed", "payee_did_not_confirm")
            confirmed = never if fault.delay_s is None else Step(fault.delay_s, "succeeded")
            plan = [Step(self._settle_s, "awaiting_payee"), confirmed]
        if fault := self._faults.draw(FaultKind.RETURN_AFTER_SUCCESS, text):
            plan.append(Step(delay_of(fault, USUAL_FAULT_DELAY_S), "returned", fault.reason))
        return plan

    async def _confirm(self, kind: Kind, out_no: str, waiting: str) -> View:
        def confirm_one(db: sqlite3.Connection) -> View:
            row = _find(db, kind, out_no)
            if row is None:
                raise Refusal(404, "not_found")
            if row["state"] != waiting:
                raise Refusal(409, f"is_{row['state']}")
            later = [step for step in _plan_of(row) if step.state == "returned"]
            self._move(db, row, Step(0, "succeeded"), later)
            return _view(_found(db, kind, out_no))

        return await self.store.write(confirm_one)

    def _move_due(self, db: sqlite3.Connection) -> None:
        for row in _due(db):
            step, *plan = _plan_of(row)
            self._move(db, row, step, plan)

    def _move(self, db: sqlite3.Connection, row: sqlite3.Row, step: Step, plan: list[Step]) -> None:
        now = time.time()
        if step.state == "failed":
            plan = [later for later in plan if later.state != "returned"]
        db.execute(
            "UPDATE instruction SET state = ?, reason = ?, at = ?, plan = ?, next_at = ? WHERE no = ?",
            (step.state, step.reason, now, msgspec.json.encode(plan),
             now + plan[0].after_s if plan else None, row["no"]),
        )  # fmt: skip
        movement = MOVEMENTS.get((Kind(row["kind"]), step.state))
        if movement is not None:
            self._record(db, row, movement, now)
        if not row["hidden"]:
            self._tell(db, row, step.state, step.reason, now)

    def _record(self, db: sqlite3.Connection, row: sqlite3.Row, movement: str, at: float) -> None:
        """Write down that money moved, and what the bill will say of it."""
        out_no, amount_fen = row["out_no"], row["amount_fen"]
        billed_fen: int | None = amount_fen
        if self._faults.draw(FaultKind.BILL_MISSING, out_no):
            billed_fen = None
        elif self._faults.draw(FaultKind.BILL_OFF_BY_ONE, out_no):
            billed_fen = amount_fen + self._faults.random.choice((-1, 1))
        insert = (
            "INSERT INTO movement (at, kind, out_no, institution_no, party, amount_fen, billed_fen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        number, party = _institution_no(row), row["party"]
        db.execute(insert, (at, movement, out_no, number, party, amount_fen, billed_fen))
        if self._faults.draw(FaultKind.BILL_EXTRA, out_no):
            db.execute(insert, (at, movement, f"X{number}", f"X{number}", "nobody", 0, amount_fen))

    def _tell(
        self, db: sqlite3.Connection, row: sqlite3.Row, state: str, reason: str | None, at: float
    ) -> None:
        event = _event(row, state, reason, at)
        if row["callback_url"] is not None and self._tells(event):
            callbacks.queue(db, self._faults, row["callback_url"], event)


def _find(db: sqlite3.Connection, kind: Kind, out_no: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM instruction WHERE kind = ? AND out_no = ?", (kind, out_no)
    ).fetchone()
    return row


def _found(db: sqlite3.Connection, kind: Kind, out_no: str) -> sqlite3.Row:
    row = _find(db, kind, out_no)
    assert row is not None
    return row


def _due(db: sqlite3.Connection) -> list[sqlite3.Row]:
    return db.execute(
        "SELECT * FROM instruction WHERE next_at <= ? ORDER BY next_at LIMIT ?", (time.time(), MOVED_AT_ONCE)
    ).fetchall()


def _plan_of(row: sqlite3.Row) -> list[Step]:
    return msgspec.json.decode(row["plan"], type=list[Step])


def _institution_no(row: sqlite3.Row) -> str:
    return f"4200{row['no']:012d}"


def _view(row: sqlite3.Row) -> View:
    if row["hidden"]:
        return View(out_no=row["out_no"], state="unknown")
    return View(
        out_no=row["out_no"],
        state=row["state"],
        reason=row["reason"],
        institution_no=_institution_no(row),
        amount_fen=row["amount_fen"],
        at=datetime.fromtimestamp(row["at"], UTC),
    )


def _event(row: sqlite3.Row, state: str, reason: str | None, at: float) -> Event:
    return Event(
        id=f"ev_{row['no']}_{state}",
        type=f"{row['kind']}.{state}",
        out_no=row["out_no"],
        amount_fen=row["amount_fen"],
        at=datetime.fromtimestamp(at, UTC),
        reason=reason,
        institution_no=_institution_no(row),
    )


def totals(db: sqlite3.Connection) -> dict[str, Any]:
    """Count and sum by kind and state, of money really moved, and of callbacks by how they fare."""
    by_state = db.execute(
        "SELECT kind, state, count(*) AS count, sum(amount_fen) AS sum_fen FROM instruction"
        " GROUP BY kind, state"
    )
    moved = db.execute(
        "SELECT kind, count(*) AS count, sum(amount_fen) AS sum_fen FROM movement WHERE amount_fen > 0"
        " GROUP BY kind"
    )
    waiting, given_up = db.execute("SELECT count(due_at), count(*) - count(due_at) FROM callback").fetchone()
    return {
        "instructions": [dict(row) for row in by_state],
        "moved": {row["kind"]: {"count": row["count"], "sum_fen": row["sum_fen"]} for row in moved},
        "callbacks": {"waiting": waiting, "given_up": given_up},
    }


def moved_by(db: sqlite3.Connection, column: str, kind: str) -> dict[str, dict[str, int]]:
    """Count and sum of the movements of a kind, by `party` or by `out_no`."""
    assert column in {"party", "out_no"}
    rows = db.execute(
        f"SELECT {column}, count(*), sum(amount_fen) FROM movement"  # noqa: S608 - one of two columns
        f" WHERE kind = ? AND amount_fen > 0 GROUP BY {column}",
        (kind,),
    )
    return {name: {"count": count, "sum_fen": sum_fen} for name, count, sum_fen in rows}
