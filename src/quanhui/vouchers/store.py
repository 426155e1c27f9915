"""Rows of the registry to types and back. The SQL stands in `queries.sql`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.keyring import Keyring, Sealed
from quanhui.vouchers.rules import (
    Claim,
    Custody,
    FoundCode,
    Integrity,
    NewCode,
    NewVoucher,
    Spend,
    Value,
    Voucher,
)

queries = load_queries(__file__)

VOUCHER_COLUMNS = (
    "id", "product_id", "issuer_id", "own_issue", "face_fen", "verified_fen", "verified_at", "expires_at",
    "custody", "value", "integrity", "holder_id", "created_at",
)  # fmt: skip
CODE_COLUMNS = (
    "fingerprint", "voucher_id", "generation", "live", "tail", "key_version", "box", "created_at",
)  # fmt: skip


def _voucher(row: Row) -> Voucher:
    return Voucher(
        id=row["id"],
        product_id=row["product_id"],
        issuer_id=row["issuer_id"],
        own_issue=row["own_issue"],
        face_fen=row["face_fen"],
        verified_fen=row["verified_fen"],
        authorised_fen=row["authorised_fen"],
        captured_fen=row["captured_fen"],
        verified_at=row["verified_at"],
        expires_at=row["expires_at"],
        custody=Custody(row["custody"]),
        value=Value(row["value"]),
        integrity=Integrity(row["integrity"]),
        holder_id=row["holder_id"],
        tail=row["tail"],
    )


def _ids(rows: Iterable[Row]) -> set[str]:
    return {row[0] for row in rows}


async def find_by_fingerprints(db: Db, fingerprints: Sequence[bytes]) -> dict[bytes, FoundCode]:
    """Look up codes by fingerprint, live or dead; unknown ones are absent."""
    rows = await queries.find_by_fingerprints(db, fingerprints=fingerprints)
    return {
        row["fingerprint"]: FoundCode(row["fingerprint"], live=row["live"], voucher=_voucher(row))
        for row in rows
    }


async def find_vouchers(db: Db, voucher_ids: Sequence[str]) -> dict[str, Voucher]:
    """Vouchers by id; unknown ids are absent."""
    rows = await queries.find_vouchers(db, voucher_ids=voucher_ids)
    return {row["id"]: _voucher(row) for row in rows}


async def list_held_by(db: Db, holder_id: str, *, before: str | None, limit: int) -> list[Voucher]:
    """The vouchers of one holder, newest first, after a cursor."""
    rows = await queries.list_held_by(db, holder_id=holder_id, before=before, limit=limit)
    return [_voucher(row) for row in rows]


async def enrol(db: Db, vouchers: Sequence[NewVoucher], *, now: datetime) -> None:
    """Load many vouchers of our own issue by COPY; their codes must be new."""
    await db.copy_records_to_table(
        "voucher",
        schema_name="vouchers",
        columns=VOUCHER_COLUMNS,
        records=(
            (v.id, v.product_id, v.issuer_id, v.own_issue, v.face_fen, v.verified_fen, now, v.expires_at,
             "seller_held", "active", "clear", v.holder_id, now)
            for v in vouchers
        ),
    )  # fmt: skip
    await db.copy_records_to_table(
        "code",
        schema_name="vouchers",
        columns=CODE_COLUMNS,
        records=((v.fingerprint, v.id, 1, True, v.tail, v.key_version, v.box, now) for v in vouchers),
    )


async def register(db: Db, vouchers: Sequence[NewVoucher], *, now: datetime) -> set[str]:
    rows = await queries.register(
        db,
        ids=[v.id for v in vouchers],
        product_ids=[v.product_id for v in vouchers],
        issuer_ids=[v.issuer_id for v in vouchers],
        own_issue=[v.own_issue for v in vouchers],
        face_fen=[v.face_fen for v in vouchers],
        verified_fen=[v.verified_fen for v in vouchers],
        expires_at=[v.expires_at for v in vouchers],
        holder_ids=[v.holder_id for v in vouchers],
        fingerprints=[v.fingerprint for v in vouchers],
        tails=[v.tail for v in vouchers],
        key_versions=[v.key_version for v in vouchers],
        boxes=[v.box for v in vouchers],
        now=now,
    )
    return _ids(rows)


async def record_balances(db: Db, balances_fen: dict[str, int], *, now: datetime) -> None:
    """Take over what issuers reported as left on vouchers, in fen, by voucher id."""
    await queries.record_balances(
        db, voucher_ids=list(balances_fen), balances_fen=list(balances_fen.values()), now=now
    )


async def claim(
    db: Db,
    claims: Sequence[Claim],
    *,
    from_custody: Sequence[str],
    now: datetime,
) -> set[tuple[str, str]]:
    """Pairs of voucher and order that came about."""
    rows = await queries.claim(
        db,
        voucher_ids=[claim.voucher_id for claim in claims],
        fingerprints=[claim.fingerprint for claim in claims],
        order_ids=[claim.order_id for claim in claims],
        claimant_ids=[claim.claimant_id for claim in claims],
        least_fens=[claim.least_fen for claim in claims],
        from_custody=from_custody,
        now=now,
    )
    return {(row["voucher_id"], row["order_id"]) for row in rows}


async def live_claims(db: Db, voucher_ids: Sequence[str]) -> dict[str, str]:
    """The order that holds each voucher now, for those that are claimed."""
    rows = await queries.live_claims(db, voucher_ids=voucher_ids)
    return {row["voucher_id"]: row["order_id"] for row in rows}


async def take_title(db: Db, orders: Mapping[str, str]) -> set[str]:
    return _ids(await queries.take_title(db, voucher_ids=list(orders), order_ids=list(orders.values())))


async def rekey(db: Db, codes: Sequence[NewCode], *, now: datetime) -> set[str]:
    rows = await queries.rekey(
        db,
        voucher_ids=[code.voucher_id for code in codes],
        fingerprints=[code.fingerprint for code in codes],
        tails=[code.tail for code in codes],
        key_versions=[code.key_version for code in codes],
        boxes=[code.box for code in codes],
        now=now,
    )
    return _ids(rows)


async def release(
    db: Db, voucher_ids: Sequence[str], *, order_id: str, reason: str, now: datetime
) -> set[str]:
    rows = await queries.release(db, voucher_ids=voucher_ids, order_id=order_id, reason=reason, now=now)
    return _ids(rows)


async def move_custody(db: Db, voucher_ids: Sequence[str], *, before: Custody, after: Custody) -> set[str]:
    rows = await queries.move_custody(db, voucher_ids=voucher_ids, from_custody=before, to_custody=after)
    return _ids(rows)


async def assign(db: Db, voucher_ids: Sequence[str], *, holder_id: str, now: datetime) -> set[str]:
    return _ids(await queries.assign(db, voucher_ids=voucher_ids, holder_id=holder_id, now=now))


async def set_integrity(
    db: Db, voucher_ids: Sequence[str], *, before: Sequence[str], after: Integrity
) -> set[str]:
    rows = await queries.set_integrity(db, voucher_ids=voucher_ids, from_integrity=before, to_integrity=after)
    return _ids(rows)


async def authorise(
    db: Db, spends: Sequence[Spend], *, spendable: Sequence[Custody], now: datetime
) -> set[str]:
    rows = await queries.authorise(db, **_amounts(spends), spendable=spendable, now=now)
    return _ids(rows)


async def unauthorise(db: Db, spends: Sequence[Spend]) -> set[str]:
    return _ids(await queries.unauthorise(db, **_amounts(spends)))


async def capture(db: Db, authorised: Sequence[Spend], captured: Sequence[Spend]) -> set[str]:
    amounts = {spend.voucher_id: spend.amount_fen for spend in authorised}
    rows = await queries.capture(
        db,
        voucher_ids=[spend.voucher_id for spend in captured],
        authorised_fen=[amounts[spend.voucher_id] for spend in captured],
        captured_fen=[spend.amount_fen for spend in captured],
    )
    return _ids(rows)


async def restore(db: Db, spends: Sequence[Spend]) -> set[str]:
    return _ids(await queries.restore(db, **_amounts(spends)))


def _amounts(spends: Sequence[Spend]) -> dict[str, list[str] | list[int]]:
    return {
        "voucher_ids": [spend.voucher_id for spend in spends],
        "amounts_fen": [spend.amount_fen for spend in spends],
    }


async def expire(db: Db, *, limit: int = 1000, now: datetime) -> int:
    """Mark vouchers whose last day has passed, up to `limit`; returns how many."""
    count: int = await queries.expire(db, limit=limit, now=now)
    return count


async def live_codes(db: Db, voucher_ids: Sequence[str]) -> list[Row]:
    rows: list[Row] = await queries.live_codes(db, voucher_ids=voucher_ids)
    return rows


async def log_reveals(db: Db, rows: Sequence[Row], *, actor_id: str, reason: str, now: datetime) -> None:
    await queries.log_reveals(
        db,
        voucher_ids=[row["voucher_id"] for row in rows],
        generations=[row["generation"] for row in rows],
        actor_id=actor_id,
        reason=reason,
        now=now,
    )


async def reseal_batch(db: Db, keyring: Keyring, *, limit: int) -> int:
    rows = await queries.codes_under_old_keys(db, newest=keyring.newest_version, limit=limit)
    sealed = []
    for row in rows:
        plain = keyring.open(Sealed(row["key_version"], row["box"]), context=row["voucher_id"])
        sealed.append(keyring.seal(plain, context=row["voucher_id"]))
    await queries.reseal(
        db,
        fingerprints=[row["fingerprint"] for row in rows],
        key_versions=[new.key_version for new in sealed],
        boxes=[new.box for new in sealed],
    )
    return len(rows)
