"""Vouchers for tests: enrolled in the registry, with codes that the test knows."""

from datetime import datetime, timedelta

from quanhui import vouchers
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring


def a_voucher(
    keyring: Keyring,
    *,
    code: str,
    now: datetime,
    face_fen: int = 100_00,
    product_id: str = "vpr_test",
    issuer_id: str = "iss_own",
    own_issue: bool = True,
    days: int = 365,
    holder_id: str | None = None,
) -> vouchers.NewVoucher:
    voucher_id = new_id("vch")
    sealed = vouchers.seal_code(keyring, voucher_id=voucher_id, issuer_id=issuer_id, code=code)
    return vouchers.NewVoucher(
        id=voucher_id,
        product_id=product_id,
        issuer_id=issuer_id,
        own_issue=own_issue,
        face_fen=face_fen,
        verified_fen=face_fen,
        expires_at=now + timedelta(days=days),
        fingerprint=sealed.fingerprint,
        tail=sealed.tail,
        key_version=sealed.key_version,
        box=sealed.box,
        holder_id=holder_id,
    )


async def enrol_one(db: Db, keyring: Keyring, *, now: datetime, **given) -> vouchers.NewVoucher:
    voucher = a_voucher(keyring, now=now, **given)
    await vouchers.enrol(db, [voucher], now=now)
    return voucher
