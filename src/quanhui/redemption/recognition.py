"""From the text a till reads to a voucher that may be spent there, or a refusal that looks like any other."""

import math
from datetime import datetime

import msgspec

from quanhui import vouchers
from quanhui.base.db import Db
from quanhui.base.errors import TooManyAttempts
from quanhui.base.keyring import Keyring
from quanhui.catalogue import Candidate, Catalogue, Product, ProductStatus, check_ok, normalise
from quanhui.redemption.errors import VoucherNotUsable
from quanhui.redemption.rules import (
    MOST_REFUSED_OPERATOR,
    MOST_REFUSED_STORE,
    REFUSED_WITHIN,
    Reason,
    Refusal,
    Till,
)
from quanhui.redemption.store import queries
from quanhui.vouchers import Custody, Integrity, Voucher

SPENDABLE = (Custody.SELLER_HELD, Custody.ASSIGNED)


class Usable(msgspec.Struct, frozen=True):
    """A voucher that may be spent at a till, its product, and the fingerprint of the code shown."""

    voucher: Voucher
    product: Product
    fingerprint: bytes

    def refused(self, reason: str, till: Till) -> VoucherNotUsable:
        """The refusal of this voucher."""
        return refuse(reason, till, self.fingerprint)


async def find_usable(
    db: Db, keyring: Keyring, catalogue: Catalogue, code: str, till: Till, *, now: datetime
) -> Usable:
    """The voucher behind a code, if it may be spent at this till now.

    Raises `VoucherNotUsable`, the same for every reason, which the caller keeps with `add_refusals`; and
    `TooManyAttempts` while the operator or the store has had too many. The limits count refusals, so
    those in flight at one moment may overshoot them by as many as there are connections.
    """
    await _require_within_limits(db, till, now=now)
    wanted = {
        vouchers.fingerprint_of(
            keyring, issuer_id=catalogue.products[each.product_id].issuer_id, code=each.code
        ): None
        for each in candidates(catalogue, code)
    }
    if not wanted:
        raise refuse(Reason.UNREADABLE, till)
    found = await vouchers.find_by_fingerprints(db, list(wanted))
    live = [found[fingerprint] for fingerprint in wanted if fingerprint in found and found[fingerprint].live]
    if not live:
        raise refuse(Reason.DEAD_CODE if found else Reason.UNKNOWN, till, next(iter(wanted)))
    voucher = live[0].voucher
    usable = Usable(voucher, catalogue.products[voucher.product_id], live[0].fingerprint)
    reason = _why_not(voucher, usable.product, till, now=now)
    if reason is not None:
        raise usable.refused(reason, till)
    return usable


def candidates(catalogue: Catalogue, text: str) -> list[Candidate]:
    """Products a text may be a code of. Vouchers of a retired one live on, those of a suspended one rest."""
    retired = [
        Candidate(product_id=product.id, code=code)
        for product in catalogue.products.values()
        if product.status is ProductStatus.RETIRED
        and (code := normalise(text, product.code_format)) is not None
        and check_ok(code, product.code_format)
    ]
    return [*catalogue.recognise(text), *retired]


def may_be_outside(catalogue: Catalogue, text: str) -> bool:
    """Whether a text may be a code of an issuer other than ourselves."""
    return any(not catalogue.issuer_of(each.product_id).is_own for each in candidates(catalogue, text))


def refuse(reason: str, till: Till, fingerprint: bytes | None = None) -> VoucherNotUsable:
    """A refusal with its reason inside."""
    return VoucherNotUsable(
        Refusal(reason=reason, fingerprint=fingerprint, store_id=till.store_id, operator_id=till.operator_id)
    )


def _why_not(voucher: Voucher, product: Product, till: Till, *, now: datetime) -> Reason | None:
    if voucher.integrity is not Integrity.CLEAR:
        return Reason.NOT_CLEAR
    if voucher.custody not in SPENDABLE:
        return Reason.NOT_HELD
    if voucher.is_expired(now):
        return Reason.EXPIRED
    if voucher.available_fen == 0:
        return Reason.SPENT
    if not product.is_valid_at(region_code=till.region_code, store_id=till.store_id):
        return Reason.OUT_OF_SCOPE
    return None


async def _require_within_limits(db: Db, till: Till, *, now: datetime) -> None:
    oldest: datetime | None = await queries.limit_reached(
        db,
        operator_id=till.operator_id,
        store_id=till.store_id,
        since=now - REFUSED_WITHIN,
        most_operator=MOST_REFUSED_OPERATOR,
        most_store=MOST_REFUSED_STORE,
    )
    if oldest is not None:
        wait = oldest + REFUSED_WITHIN - now
        raise TooManyAttempts(retry_after_s=math.ceil(wait.total_seconds()))
