"""An issuer 发行方, or many under one roof: knows its codes, and locks, re-keys, redeems and extends them.

Every change carries a reference and is done once for it: the same reference with the same content
gets the answer it got the first time, so that a caller who lost it can ask again.
"""

import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from string import digits
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Request, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from quanhui.base import clock
from quanhui.sandboxes.codes import ALPHANUMERIC, CodeFormat, new_code
from quanhui.sandboxes.faults import FaultKind, FaultTable
from quanhui.sandboxes.store import Refusal, Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS issuer (issuer TEXT PRIMARY KEY, capabilities TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS voucher (
    issuer TEXT NOT NULL, code TEXT NOT NULL, prefix TEXT NOT NULL, format TEXT NOT NULL, product TEXT,
    face_fen INTEGER NOT NULL CHECK (face_fen > 0),
    balance_fen INTEGER NOT NULL CHECK (balance_fen BETWEEN 0 AND face_fen),
    expires_at REAL NOT NULL, whole_value_only INTEGER NOT NULL, locked_by TEXT,
    void INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (issuer, code)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcome (
    issuer TEXT NOT NULL, operation TEXT NOT NULL, reference TEXT NOT NULL,
    request BLOB NOT NULL, answer BLOB NOT NULL,
    PRIMARY KEY (issuer, operation, reference)
) WITHOUT ROWID;
"""

CAPABILITIES = ("verify", "lock", "unlock", "rekey", "redeem", "reverse", "extend")
SEED_BATCH = 5_000

Code = Annotated[str, Meta(min_length=1, max_length=128)]
Reference = Annotated[str, Meta(min_length=1, max_length=128)]
Fen = Annotated[int, Meta(ge=1)]
Instant = Annotated[datetime, Meta(tz=True)]


class SeedVoucher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the seed file, or of `POST /control/vouchers`. `code` includes the prefix."""

    issuer: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    prefix: str = ""
    code: Code
    face_fen: Fen
    balance_fen: Annotated[int, Meta(ge=0)]
    expires_at: Instant
    format: CodeFormat | None = None
    product: str | None = None
    whole_value_only: bool = False


class IssuerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one of the issuers can do; without this call, everything."""

    issuer: str
    capabilities: frozenset[str]


class SpendBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody else spends a voucher at a till."""

    issuer: str
    code: str
    amount_fen: Fen


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lock, unlock or re-key one code."""

    reference: Reference
    code: Code


class Draw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Draw an amount, or give back what was drawn under this reference."""

    reference: Reference
    code: Code
    amount_fen: Fen


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move an expiry to a later instant."""

    reference: Reference
    code: Code
    expires_at: Instant


Item: TypeAlias = Hold | Draw | Extension


class Holds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of locks, unlocks or re-keys."""

    items: Annotated[list[Hold], Meta(max_length=100)]


class Draws(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of draws or reversals."""

    items: Annotated[list[Draw], Meta(max_length=100)]


class Extensions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of extensions."""

    items: Annotated[list[Extension], Meta(max_length=100)]


class Codes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of codes to verify."""

    codes: Annotated[list[Code], Meta(max_length=100)]


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a code is worth: status is known, unknown, locked, spent, expired or void."""

    status: str
    face_fen: int | None = None
    balance_fen: int | None = None
    expires_at: datetime | None = None
    product_hint: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether one item was done; if not, why."""

    ok: bool
    reason: str | None = None
    new_code: str | None = None
    balance_fen: int | None = None
    expires_at: datetime | None = None


class Results(msgspec.Struct, frozen=True):
    """Answers in the order asked."""

    results: list[Check] | list[Answer]


class Issuer:
    """The books of the issuers in one file."""

    def __init__(self, state: Path, faults: FaultTable) -> None:
        self.store = Store(state / "issuer.sqlite", SCHEMA)
        self._faults = faults

    def load(self, lines: Iterable[bytes]) -> None:
        """Take in JSON lines. Codes already in the books stay as they are."""
        vouchers = (msgspec.json.decode(line, type=SeedVoucher) for line in lines if line.strip())
        for batch in _batches(vouchers):
            self.store.write_now(lambda db, batch=batch: _add(db, batch))  # type: ignore[misc]

    def verify(self, issuer: str, codes: list[str], *, now: datetime) -> list[Check]:
        """What codes are worth now."""

        def check_all(db: sqlite3.Connection) -> list[Check]:
            if "verify" not in _capabilities(db, issuer):
                raise Refusal(409, "not_supported")
            return [_check(_find(db, issuer, code), now) for code in codes]

        checks = self.store.read(check_all)
        return [self._perhaps_wrong(check, code) for check, code in zip(checks, codes, strict=True)]

    async def change(self, issuer: str, operation: str, items: list[Item], *, now: datetime) -> list[Answer]:
        """Carry out a set, each item once for its reference."""

        def change_all(db: sqlite3.Connection) -> list[Answer]:
            if operation not in _capabilities(db, issuer):
                return [Answer(ok=False, reason="not_supported") for _ in items]
            return [_once(db, issuer, operation, item, now) for item in items]

        return await self.store.write(change_all)

    def _perhaps_wrong(self, check: Check, code: str) -> Check:
        face_fen, balance_fen = check.face_fen, check.balance_fen
        if face_fen is None or balance_fen is None:
            return check
        fault = self._faults.draw(FaultKind.WRONG_BALANCE, code)
        if fault is None:
            return check
        wrong = {"negative": -1, "above_face": face_fen + 1, "halved": balance_fen // 2}
        variant = fault.variant or self._faults.random.choice(list(wrong))
        return msgspec.structs.replace(check, balance_fen=wrong[variant])


Party = NamedDependency[Issuer]

BODIES: dict[str, type[Holds | Draws | Extensions]] = {
    "lock": Holds,
    "unlock": Holds,
    "rekey": Holds,
    "redeem": Draws,
    "reverse": Draws,
    "extend": Extensions,
}


@post("/v1/{issuer:str}/verify", status_code=200)
async def verify(party: Party, issuer: FromPath[str], data: JSONBody[Codes]) -> Results:
    """Tell what codes are worth."""
    return Results(party.verify(issuer, data.codes, now=clock.now()))


@post("/v1/{issuer:str}/{operation:str}", status_code=200)
async def change(
    party: Party, issuer: FromPath[str], operation: FromPath[str], request: Request[Any, Any, Any]
) -> Results:
    """Lock, unlock, rekey, redeem, reverse or extend a set of codes."""
    if operation not in BODIES:
        raise Refusal(404, "no_such_operation")
    try:
        body = msgspec.json.decode(await request.body(), type=BODIES[operation])
    except msgspec.ValidationError:
        raise Refusal(400, "malformed") from None
    return Results(await party.change(issuer, operation, list(body.items), now=clock.now()))


@post("/control/vouchers", status_code=201)
async def add_vouchers(party: Party, data: JSONBody[list[SeedVoucher]]) -> dict[str, int]:
    """Issue vouchers. Codes already in the books stay as they are."""
    await party.store.write(lambda db: _add(db, data))
    return {"count": len(data)}


@post("/control/issuers", status_code=201)
async def set_issuer(party: Party, data: JSONBody[IssuerBody]) -> IssuerBody:
    """Say what an issuer can do."""
    if not data.capabilities <= set(CAPABILITIES):
        raise Refusal(400, "no_such_capability")
    await party.store.write(
        lambda db: db.execute(
            "INSERT OR REPLACE INTO issuer VALUES (?, ?)", (data.issuer, " ".join(sorted(data.capabilities)))
        )
    )
    return data


@post("/control/spend", status_code=200)
async def spend(party: Party, data: JSONBody[SpendBody]) -> Answer:
    """Spend at somebody else's till: a locked voucher refuses."""

    def spend_one(db: sqlite3.Connection) -> Answer:
        voucher = _find(db, data.issuer, data.code)
        if voucher is not None and voucher["locked_by"] is not None:
            return Answer(ok=False, reason="locked_by_other")
        draw = Draw(reference="-", code=data.code, amount_fen=data.amount_fen)
        return _perform(db, "redeem", voucher, draw, clock.now())

    return await party.store.write(spend_one)


@post("/control/books", status_code=200)
async def books(party: Party, data: JSONBody[Codes]) -> list[dict[str, Any]]:
    """The issuer's own rows for codes, for comparing after a crash."""
    marks = ",".join("?" * len(data.codes))
    query = (
        f"SELECT issuer, code, face_fen, balance_fen, locked_by, void FROM voucher WHERE code IN ({marks})"  # noqa: S608 - question marks only
    )
    return party.store.read(lambda db: [dict(row) for row in db.execute(query, data.codes)])


handlers = [verify, change, add_vouchers, set_issuer, spend, books]


def _batches(vouchers: Iterator[SeedVoucher]) -> Iterator[list[SeedVoucher]]:
    while batch := list(islice(vouchers, SEED_BATCH)):
        yield batch


def _add(db: sqlite3.Connection, vouchers: list[SeedVoucher]) -> None:
    known = [(issuer, " ".join(CAPABILITIES)) for issuer in {voucher.issuer for voucher in vouchers}]
    db.executemany("INSERT OR IGNORE INTO issuer VALUES (?, ?)", known)
    db.executemany(
        "INSERT OR IGNORE INTO voucher (issuer, code, prefix, format, product, face_fen, balance_fen,"
        " expires_at, whole_value_only) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (v.issuer, v.code, v.prefix, msgspec.json.encode(v.format or _format_of(v)), v.product,
             v.face_fen, v.balance_fen, v.expires_at.timestamp(), v.whole_value_only)
            for v in vouchers
        ],
    )  # fmt: skip


def _format_of(voucher: SeedVoucher) -> CodeFormat:
    """The plainest format that a code without a stated one fits."""
    body = voucher.code.removeprefix(voucher.prefix)
    alphabet = digits if body.isdecimal() else ALPHANUMERIC
    return CodeFormat(alphabet, len(body), "none")


def _capabilities(db: sqlite3.Connection, issuer: str) -> list[str]:
    row = db.execute("SELECT capabilities FROM issuer WHERE issuer = ?", (issuer,)).fetchone()
    if row is None:
        raise Refusal(404, "no_such_issuer")
    return str(row["capabilities"]).split()


def _find(db: sqlite3.Connection, issuer: str, code: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM voucher WHERE issuer = ? AND code = ?", (issuer, code)
    ).fetchone()
    return row


def _check(voucher: sqlite3.Row | None, now: datetime) -> Check:
    if voucher is None:
        return Check(status="unknown")
    if voucher["void"]:
        status = "void"
    elif voucher["expires_at"] <= now.timestamp():
        status = "expired"
    elif voucher["balance_fen"] == 0:
        status = "spent"
    else:
        status = "known" if voucher["locked_by"] is None else "locked"
    return Check(
        status=status,
        face_fen=voucher["face_fen"],
        balance_fen=voucher["balance_fen"],
        expires_at=datetime.fromtimestamp(voucher["expires_at"], UTC),
        product_hint=voucher["product"],
    )


def _once(db: sqlite3.Connection, issuer: str, operation: str, item: Item, now: datetime) -> Answer:
    request = msgspec.json.encode(item)
    key = (issuer, operation, item.reference)
    done = db.execute(
        "SELECT request, answer FROM outcome WHERE issuer = ? AND operation = ? AND reference = ?", key
    ).fetchone()
    if done is not None:
        if done["request"] != request:
            return Answer(ok=False, reason="reference_reused")
        return msgspec.json.decode(done["answer"], type=Answer)
    voucher = _find(db, issuer, item.code)
    if operation == "reverse" and not _covers(db, issuer, item):
        answer = Answer(ok=False, reason="unknown_reference")
    else:
        answer = _perform(db, operation, voucher, item, now)
    db.execute("INSERT INTO outcome VALUES (?, ?, ?, ?, ?)", (*key, request, msgspec.json.encode(answer)))
    return answer


def _covers(db: sqlite3.Connection, issuer: str, item: Item) -> bool:
    """Whether a draw was made under the reversal's reference, on the same code, of at least its amount."""
    row = db.execute(
        "SELECT request, answer FROM outcome WHERE issuer = ? AND operation = 'redeem' AND reference = ?",
        (issuer, item.reference),
    ).fetchone()
    if row is None or not msgspec.json.decode(row["answer"], type=Answer).ok:
        return False
    drawn = msgspec.json.decode(row["request"], type=Draw)
    return isinstance(item, Draw) and drawn.code == item.code and drawn.amount_fen >= item.amount_fen


def _perform(
    db: sqlite3.Connection, operation: str, voucher: sqlite3.Row | None, item: Item, now: datetime
) -> Answer:
    if voucher is None:
        return Answer(ok=False, reason="unknown_code")
    if voucher["void"] and operation != "unlock":
        return Answer(ok=False, reason="void")
    if voucher["expires_at"] <= now.timestamp() and operation in {"lock", "rekey", "redeem"}:
        return Answer(ok=False, reason="expired")
    return PERFORM[operation](db, voucher, item)


def _lock(db: sqlite3.Connection, voucher: sqlite3.Row, item: Hold) -> Answer:
    if voucher["locked_by"] not in {None, item.reference}:
        return Answer(ok=False, reason="locked_by_other")
    _set(db, voucher, "locked_by", item.reference)
    return Answer(ok=True)


def _unlock(db: sqlite3.Connection, voucher: sqlite3.Row, item: Hold) -> Answer:
    if voucher["locked_by"] != item.reference:
        return Answer(ok=False, reason="not_locked")
    _set(db, voucher, "locked_by", None)
    return Answer(ok=True)


def _rekey(db: sqlite3.Connection, voucher: sqlite3.Row, _item: Hold) -> Answer:
    """The new code has everything of the old one but its lock."""
    if voucher["balance_fen"] == 0:
        return Answer(ok=False, reason="insufficient_balance")
    code_format = msgspec.json.decode(voucher["format"], type=CodeFormat)
    code = voucher["code"]
    while _find(db, voucher["issuer"], code) is not None:
        code = new_code(voucher["prefix"], code_format, random.SystemRandom())
    db.execute(
        "INSERT INTO voucher (issuer, code, prefix, format, product, face_fen, balance_fen, expires_at,"
        " whole_value_only) SELECT issuer, ?, prefix, format, product, face_fen, balance_fen, expires_at,"
        " whole_value_only FROM voucher WHERE issuer = ? AND code = ?",
        (code, voucher["issuer"], voucher["code"]),
    )
    db.execute(
        "UPDATE voucher SET void = 1, balance_fen = 0, locked_by = NULL WHERE issuer = ? AND code = ?",
        (voucher["issuer"], voucher["code"]),
    )
    return Answer(ok=True, new_code=code)


def _redeem(db: sqlite3.Connection, voucher: sqlite3.Row, item: Draw) -> Answer:
    left_fen = voucher["balance_fen"] - item.amount_fen
    if left_fen < 0:
        return Answer(ok=False, reason="insufficient_balance")
    if left_fen and voucher["whole_value_only"]:
        return Answer(ok=False, reason="whole_value_only")
    _set(db, voucher, "balance_fen", left_fen)
    return Answer(ok=True, balance_fen=left_fen)


def _reverse(db: sqlite3.Connection, voucher: sqlite3.Row, item: Draw) -> Answer:
    balance_fen = voucher["balance_fen"] + item.amount_fen
    _set(db, voucher, "balance_fen", balance_fen)
    return Answer(ok=True, balance_fen=balance_fen)


def _extend(db: sqlite3.Connection, voucher: sqlite3.Row, item: Extension) -> Answer:
    if item.expires_at.timestamp() <= voucher["expires_at"]:
        return Answer(ok=False, reason="not_later")
    _set(db, voucher, "expires_at", item.expires_at.timestamp())
    return Answer(ok=True, expires_at=item.expires_at)


PERFORM: dict[str, Callable[[sqlite3.Connection, sqlite3.Row, Any], Answer]] = {
    "lock": _lock,
    "unlock": _unlock,
    "rekey": _rekey,
    "redeem": _redeem,
    "reverse": _reverse,
    "extend": _extend,
}


def _set(db: sqlite3.Connection, voucher: sqlite3.Row, column: str, value: object) -> None:
    db.execute(
        f"UPDATE voucher SET {column} = ? WHERE issuer = ? AND code = ?",  # noqa: S608 - a column of ours
        (value, voucher["issuer"], voucher["code"]),
    )
