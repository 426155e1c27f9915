"""Vouchers of our own issue, for the registry; and how any sample voucher gets its code and expiry."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.catalogue import LegalClass, Product, WithoutCodes, make_code
from quanhui.sample.dice import dice
from quanhui.sample.offers import make_offers
from quanhui.vouchers import NewVoucher, seal_code

OWN_WEIGHTS = (45, 8, 25, 8, 5, 6, 3)
"""How the registry's vouchers divide over our own products, in the order of `offers.KINDS`."""


class PlainVoucher(WithoutCodes, frozen=True, kw_only=True):
    """A voucher with its code in the open."""

    product: Product
    code: str
    face_fen: int
    expires_at: datetime


def own_vouchers(seed: int, count: int, *, now: datetime) -> Iterator[PlainVoucher]:
    """Vouchers of our own issue, no code twice; issued some time ago, all still valid."""
    products = make_offers(seed).own()
    throw = dice(seed, "own vouchers")
    used: set[str] = set()
    for product in throw.choices(products, OWN_WEIGHTS, k=count):
        code = new_code(product, throw, used)
        yield PlainVoucher(
            product=product,
            code=code,
            face_fen=throw.choice(product.face_values_fen),
            expires_at=expiry(product, throw, now),
        )


def sealed_for_registry(
    keyring: Keyring, plain: Sequence[PlainVoucher], throw: Random, holder_ids: Sequence[str]
) -> list[NewVoucher]:
    """Vouchers ready for the registry. A registered card has one of the holders; the others, their bearer."""
    sealed = []
    for voucher in plain:
        product, voucher_id = voucher.product, new_id("vch")
        code = seal_code(keyring, voucher_id=voucher_id, issuer_id=product.issuer_id, code=voucher.code)
        is_registered = product.legal_class is LegalClass.SINGLE_PURPOSE_REGISTERED
        sealed.append(
            NewVoucher(
                id=voucher_id,
                product_id=product.id,
                issuer_id=product.issuer_id,
                own_issue=True,
                face_fen=voucher.face_fen,
                verified_fen=voucher.face_fen,
                expires_at=voucher.expires_at,
                fingerprint=code.fingerprint,
                tail=code.tail,
                key_version=code.key_version,
                box=code.box,
                holder_id=throw.choice(holder_ids) if is_registered else None,
            )
        )
    return sealed


def new_code(product: Product, throw: Random, used: set[str]) -> str:
    """A code of this product that is not among those used; it is from now on."""
    while (code := make_code(product.code_format, throw)) in used:
        pass
    used.add(code)
    return code


def expiry(product: Product, throw: Random, now: datetime) -> datetime:
    """The expiry of a voucher issued some days ago, at the earliest yesterday, and still valid."""
    valid_days = product.validity.days_from_issue
    age_days = throw.randrange(1, valid_days) if valid_days else 1
    return product.validity.expires_at(now - timedelta(days=age_days))
