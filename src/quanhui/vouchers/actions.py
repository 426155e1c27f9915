"""Verbs of the registry. Each works on a set, and does all of it or raises.

The caller appends the evidence: the registry says what is, the story says why.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from quanhui.base.db import Db, Row
from quanhui.base.keyring import Keyring, Sealed
from quanhui.vouchers import store
from quanhui.vouchers.errors import CannotSpend, CustodyChanged, NotClaimable
from quanhui.vouchers.rules import (
    CUSTODY,
    INTEGRITY,
    TAIL_LENGTH,
    Claim,
    Custody,
    Integrity,
    NewCode,
    NewVoucher,
    Spend,
)

SPENDABLE = (Custody.SELLER_HELD, Custody.ASSIGNED)
"""Only a voucher that its holder has may be spent: not one in stock, claimed or reserved."""


def fingerprint_of(keyring: Keyring, *, issuer_id: str, code: str) -> bytes:
    """The identity of a normalised code: the same code at two issuers is two vouchers."""
    return keyring.fingerprint("voucher-code/v1", issuer_id, code)


def seal_code(keyring: Keyring, *, voucher_id: str, issuer_id: str, code: str) -> NewCode:
    """A code made ready for the vault: sealed to its voucher, with fingerprint and tail."""
    sealed = keyring.seal(code, context=voucher_id)
    return NewCode(
        voucher_id=voucher_id,
        fingerprint=fingerprint_of(keyring, issuer_id=issuer_id, code=code),
        tail=code[-TAIL_LENGTH:],
        key_version=sealed.key_version,
        box=sealed.box,
    )


async def register(db: Db, vouchers: Sequence[NewVoucher], *, now: datetime) -> set[str]:
    """Add vouchers to the registry; returns the ids added. A code that is already known adds nothing."""
    return await store.register(db, vouchers, now=now)


async def claim(db: Db, claims: Sequence[Claim], *, now: datetime) -> None:
    """Claim every voucher for its order, or raise `NotClaimable` naming those that someone else has.

    At most one live claim per fingerprint is held by a unique index; who comes second waits for the first
    to commit and is then refused. Needs the voucher clear, unexpired, with nothing set aside, at least
    `least_fen` left on it, and offered by its holder of record (or by the bearer, where none is recorded).
    """
    claimed = await store.claim(db, claims, from_custody=CUSTODY.before(Custody.CLAIMED), now=now)
    wanted = {(claim.voucher_id, claim.order_id) for claim in claims}
    lost = sorted({voucher_id for voucher_id, _ in wanted - claimed})
    if lost:
        raise NotClaimable(vouchers=lost)


async def take_title(db: Db, orders: Mapping[str, str]) -> None:
    """Make the platform holder of record of vouchers, each claimed in the order named beside its id.

    Raises `CustodyChanged`.
    """
    _require_all(list(orders), await store.take_title(db, orders))


async def rekey(db: Db, codes: Sequence[NewCode], *, now: datetime) -> None:
    """Give vouchers new codes; the old ones are dead from here on and never accepted again."""
    rekeyed = await store.rekey(db, codes, now=now)
    assert rekeyed == {code.voucher_id for code in codes}, "every voucher has one live code"


async def release(db: Db, voucher_ids: Sequence[str], *, order_id: str, reason: str, now: datetime) -> None:
    """Give claimed vouchers back, because the deal did not come about; the claim no longer counts."""
    _require_all(voucher_ids, await store.release(db, voucher_ids, order_id=order_id, reason=reason, now=now))


async def reserve(db: Db, voucher_ids: Sequence[str]) -> None:
    """Set stock aside for a buyer; raises `CustodyChanged` if any is frozen or no longer in stock."""
    await _move(db, voucher_ids, before=Custody.PLATFORM_HELD, after=Custody.RESERVED)


async def unreserve(db: Db, voucher_ids: Sequence[str]) -> None:
    """Put reserved vouchers back into stock."""
    await _move(db, voucher_ids, before=Custody.RESERVED, after=Custody.PLATFORM_HELD)


async def assign(db: Db, voucher_ids: Sequence[str], *, holder_id: str, now: datetime) -> None:
    """Hand reserved vouchers to their buyer, who becomes holder of record."""
    _require_all(voucher_ids, await store.assign(db, voucher_ids, holder_id=holder_id, now=now))


async def set_integrity(db: Db, voucher_ids: Sequence[str], integrity: Integrity) -> None:
    """Freeze, clear or void vouchers. Frozen blocks list, reveal, redeem, payout and pledge."""
    changed = await store.set_integrity(db, voucher_ids, before=INTEGRITY.before(integrity), after=integrity)
    _require_all(voucher_ids, changed)


async def authorise(db: Db, spends: Sequence[Spend], *, now: datetime) -> None:
    """Set amounts aside for redemption; raises `CannotSpend` naming the vouchers that have too little."""
    authorised = await store.authorise(db, spends, spendable=SPENDABLE, now=now)
    refused = sorted({spend.voucher_id for spend in spends} - authorised)
    if refused:
        raise CannotSpend(vouchers=refused)


async def unauthorise(db: Db, spends: Sequence[Spend]) -> None:
    """Let amounts set aside go again."""
    _require_all([spend.voucher_id for spend in spends], await store.unauthorise(db, spends))


async def capture(db: Db, authorised: Sequence[Spend], captured: Sequence[Spend]) -> None:
    """Spend what was set aside, or a part of it; the rest is available again.

    Raises `CustodyChanged` when a voucher was frozen in the meantime.
    """
    _require_all([spend.voucher_id for spend in captured], await store.capture(db, authorised, captured))


async def restore(db: Db, spends: Sequence[Spend]) -> None:
    """Give captured amounts back to the same voucher; raises `CustodyChanged` beyond what was captured."""
    _require_all([spend.voucher_id for spend in spends], await store.restore(db, spends))


async def reveal(
    db: Db, keyring: Keyring, voucher_ids: Sequence[str], *, actor_id: str, reason: str, now: datetime
) -> dict[str, str]:
    """Open the live codes of vouchers, and log who did and why. The caller has checked that they may.

    Returns code by voucher id. The codes go to the person and nowhere else.
    """
    rows = await store.live_codes(db, voucher_ids)
    await store.log_reveals(db, rows, actor_id=actor_id, reason=reason, now=now)
    return _opened(keyring, rows)


async def open_codes(db: Db, keyring: Keyring, voucher_ids: Sequence[str]) -> dict[str, str]:
    """The live codes of vouchers, for a call to their issuer. They never reach a person."""
    return _opened(keyring, await store.live_codes(db, voucher_ids))


async def rotate_keys(db: Db, keyring: Keyring, *, limit: int = 1000) -> int:
    """Seal up to `limit` codes anew under the newest key; returns how many, 0 when all are."""
    return await store.reseal_batch(db, keyring, limit=limit)


def _opened(keyring: Keyring, rows: Sequence[Row]) -> dict[str, str]:
    return {
        row["voucher_id"]: keyring.open(Sealed(row["key_version"], row["box"]), context=row["voucher_id"])
        for row in rows
    }


async def _move(db: Db, voucher_ids: Sequence[str], *, before: Custody, after: Custody) -> None:
    _require_all(voucher_ids, await store.move_custody(db, voucher_ids, before=before, after=after))


def _require_all(wanted: Sequence[str], done: set[str]) -> None:
    left = sorted(set(wanted) - done)
    if left:
        raise CustodyChanged(vouchers=left)
