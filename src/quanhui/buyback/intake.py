"""From what the seller typed to lines: read the codes, ask outside issuers, look the vouchers up, screen."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui import vouchers
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.buyback.rules import Item, Line, ReadCode, Refusal
from quanhui.buyback.terms import Terms
from quanhui.catalogue import (
    BalanceCheck,
    BalanceStatus,
    Capability,
    Connectors,
    ProductStatus,
    check_ok,
    normalise,
)
from quanhui.vouchers import FoundCode, Integrity, NewVoucher

NEEDED = frozenset({Capability.VERIFY, Capability.LOCK})
"""Without these an issuer cannot keep the seller from spending what we have bought."""

ISSUER_SAYS = {
    BalanceStatus.UNKNOWN: Refusal.UNKNOWN,
    BalanceStatus.LOCKED: Refusal.LOCKED_AT_ISSUER,
    BalanceStatus.SPENT: Refusal.EMPTY,
    BalanceStatus.EXPIRED: Refusal.EXPIRED,
    BalanceStatus.VOID: Refusal.NOT_CLEAR,
}


def read_codes(terms: Terms, items: Sequence[Item]) -> list[ReadCode]:
    """Read each text as a code: of the product named, or of the one its format belongs to.

    A code that stands twice in the set is refused the second time.
    """
    seen: set[bytes] = set()
    read = []
    for number, item in enumerate(items, 1):
        code = _read_one(terms, item, number)
        if code.fingerprint in seen:
            code = ReadCode(number=number, refusal=Refusal.DUPLICATE)
        if code.fingerprint:
            seen.add(code.fingerprint)
        read.append(code)
    return read


def _read_one(terms: Terms, item: Item, number: int) -> ReadCode:
    if item.product_id is not None:
        product = terms.catalogue.products.get(item.product_id)
        code = normalise(item.text, product.code_format) if product else None
        if product is None or code is None or not check_ok(code, product.code_format):
            fits_another = bool(terms.catalogue.recognise(item.text))
            refusal = Refusal.PRODUCT_MISMATCH if fits_another else Refusal.MALFORMED
            return ReadCode(number=number, refusal=refusal)
    else:
        candidates = terms.catalogue.recognise(item.text)
        if not candidates:
            return ReadCode(number=number, refusal=Refusal.MALFORMED)
        issuers = {terms.catalogue.products[found.product_id].issuer_id for found in candidates}
        own = terms.catalogue.issuers[min(issuers)].is_own
        if len(issuers) > 1 or (len(candidates) > 1 and not own):
            return ReadCode(number=number, refusal=Refusal.PRODUCT_UNCLEAR)
        product, code = terms.catalogue.products[candidates[0].product_id], candidates[0].code
    issuer = terms.catalogue.issuers[product.issuer_id]
    return ReadCode(
        number=number,
        code=code,
        product_id=product.id,
        issuer_id=issuer.id,
        own_issue=issuer.is_own,
        fingerprint=vouchers.fingerprint_of(terms.keyring, issuer_id=issuer.id, code=code),
        refusal=None if issuer.is_own or issuer.capabilities >= NEEDED else Refusal.NOT_BOUGHT,
    )


async def ask_issuers(
    connectors: Connectors, codes: Sequence[ReadCode], *, now: datetime
) -> dict[int, BalanceCheck]:
    """Verify outside codes with their issuers, by line number. Called outside any transaction.

    Raises `NoAnswer` when an issuer is silent: a price on a guess would be a gift to thieves.
    """
    by_issuer: dict[str, list[ReadCode]] = {}
    for code in codes:
        if code.is_outside and code.issuer_id:
            by_issuer.setdefault(code.issuer_id, []).append(code)
    checks: dict[int, BalanceCheck] = {}
    for issuer_id, asked in by_issuer.items():
        answers = await connectors[issuer_id].verify([code.code for code in asked], now=now)
        checks |= {code.number: answer for code, answer in zip(asked, answers, strict=True)}
    return checks


async def look_up(
    db: Db, terms: Terms, asked: Sequence[tuple[ReadCode, BalanceCheck | None]], *, now: datetime
) -> dict[bytes, FoundCode]:
    """Find the vouchers behind codes; those new to us that their issuer vouches for are registered."""
    found = await vouchers.find_by_fingerprints(
        db, sorted({code.fingerprint for code, _ in asked if code.fingerprint})
    )
    vouched = {
        code.fingerprint: (code, check)
        for code, check in asked
        if code.fingerprint and check is not None and check.status is BalanceStatus.KNOWN
    }
    new = [
        _new_voucher(terms, code, check)
        for fingerprint, (code, check) in vouched.items()
        if fingerprint not in found
    ]
    if new:
        await vouchers.register(db, new, now=now)
        found |= await vouchers.find_by_fingerprints(db, [voucher.fingerprint for voucher in new])
    fresh = {
        found[fingerprint].voucher.id: check.balance_fen
        for fingerprint, (_, check) in vouched.items()
        if fingerprint in found and check.balance_fen is not None
    }
    if fresh:
        await vouchers.record_balances(db, fresh, now=now)
    return found


def _new_voucher(terms: Terms, code: ReadCode, check: BalanceCheck) -> NewVoucher:
    assert code.product_id
    assert code.issuer_id
    assert code.fingerprint
    assert check.face_fen
    assert check.expires_at
    voucher_id = new_id("vch")
    sealed = vouchers.seal_code(
        terms.keyring, voucher_id=voucher_id, issuer_id=code.issuer_id, code=code.code
    )
    return NewVoucher(
        id=voucher_id,
        product_id=code.product_id,
        issuer_id=code.issuer_id,
        own_issue=False,
        face_fen=check.face_fen,
        verified_fen=check.balance_fen or 0,
        expires_at=check.expires_at,
        fingerprint=code.fingerprint,
        tail=sealed.tail,
        key_version=sealed.key_version,
        box=sealed.box,
    )


def screen(
    code: ReadCode,
    found: FoundCode | None,
    check: BalanceCheck | None,
    *,
    terms: Terms,
    seller_id: str,
    named_product: bool,
    now: datetime,
) -> Line:
    """Make a line of a code: what it is, or why it is refused. Secret reasons are looked for first."""
    line = Line(
        number=code.number, tail=code.code[-4:], fingerprint=code.fingerprint, product_id=code.product_id
    )
    if code.refusal:
        return line.refused(code.refusal)
    if check and check.status is not BalanceStatus.KNOWN:
        return line.refused(ISSUER_SAYS[check.status])
    if found is None:
        return line.refused(Refusal.UNKNOWN)
    voucher = found.voucher
    line = msgspec.structs.replace(
        line, voucher_id=voucher.id, product_id=voucher.product_id, expires_at=voucher.expires_at
    )
    refusal = _refusal_of(found, seller_id=seller_id, now=now)
    if refusal is None and named_product and voucher.product_id != code.product_id:
        refusal = Refusal.PRODUCT_MISMATCH
    product = terms.catalogue.products[voucher.product_id]
    if refusal is None and product.status is not ProductStatus.ACTIVE:
        refusal = Refusal.NOT_BOUGHT
    balance_fen = voucher.available_fen
    if check and check.balance_fen is not None:
        balance_fen = min(check.balance_fen, voucher.face_fen - voucher.captured_fen)
    if refusal is None and balance_fen <= 0:
        refusal = Refusal.EMPTY
    if refusal:
        return line.refused(refusal)
    return msgspec.structs.replace(line, face_fen=voucher.face_fen, balance_fen=balance_fen)


def _refusal_of(found: FoundCode, *, seller_id: str, now: datetime) -> Refusal | None:
    voucher = found.voucher
    if not found.live:
        return Refusal.DEAD_CODE
    if voucher.integrity is not Integrity.CLEAR:
        return Refusal.NOT_CLEAR
    if voucher.holder_id not in (None, seller_id):
        return Refusal.NOT_HOLDER
    if not voucher.may_be_offered_by(seller_id) or voucher.authorised_fen:
        return Refusal.CLAIMED
    if voucher.is_expired(now):
        return Refusal.EXPIRED
    return None
