"""Vouchers in the books of other issuers, as lines of JSON for the sandbox that plays them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

from quanhui.catalogue import CheckAlgorithm, Product, WithoutCodes
from quanhui.sample.dice import dice
from quanhui.sample.offers import make_offers
from quanhui.sample.vouchers import expiry, new_code

ALWAYS_GOOD = 3
"""The first vouchers of a product are whole and valid: a newcomer tries those."""

LONG_EXPIRED = timedelta(days=30)
SPENT_BELOW, EXPIRED_BELOW, PARTIAL_BELOW = 4, 8, 20
"""Of a hundred vouchers: 4 are spent, 4 expired, and 12, where a product allows it, drawn on."""


class OutsideFormat(msgspec.Struct, frozen=True):
    """The shape of a product's codes, so that the issuer can make new ones."""

    alphabet: str
    body_length: int
    check: CheckAlgorithm


class OutsideVoucher(WithoutCodes, frozen=True, kw_only=True):
    """One line of the seed file: what an outside issuer knows of a voucher."""

    issuer: str
    prefix: str
    code: str
    face_fen: int
    balance_fen: int
    expires_at: datetime
    format: OutsideFormat
    product: str
    whole_value_only: bool


def outside_vouchers(seed: int, per_product: int, *, now: datetime) -> Iterator[OutsideVoucher]:
    """So many vouchers of each outside product: most good, some drawn on, some spent, some expired."""
    for product in make_offers(seed).outside():
        throw = dice(seed, f"outside vouchers of {product.zh}")
        used: set[str] = set()
        shape = product.code_format
        for position in range(per_product):
            face_fen = throw.choice(product.face_values_fen)
            left_percent, has_expired = _fate(product, throw, position)
            expires_at = expiry(product, throw, now)
            yield OutsideVoucher(
                issuer=product.issuer_id,
                prefix=shape.prefix,
                code=new_code(product, throw, used),
                face_fen=face_fen,
                balance_fen=face_fen * left_percent // 100,
                expires_at=now - LONG_EXPIRED if has_expired else expires_at,
                format=OutsideFormat(shape.alphabet, shape.body_length, shape.check),
                product=product.id,
                whole_value_only=not product.multi_draw,
            )


def write_outside_vouchers(
    file: Path, seed: int, per_product: int, *, now: datetime
) -> tuple[int, list[OutsideVoucher]]:
    """Write the seed file; returns how many lines it has, and the first voucher of each product."""
    file.parent.mkdir(parents=True, exist_ok=True)
    encoder = msgspec.json.Encoder()
    firsts: dict[str, OutsideVoucher] = {}
    count = 0
    with file.open("wb") as lines:
        for voucher in outside_vouchers(seed, per_product, now=now):
            lines.write(encoder.encode(voucher) + b"\n")
            firsts.setdefault(voucher.product, voucher)
            count += 1
    return count, list(firsts.values())


def _fate(product: Product, throw: Random, position: int) -> tuple[int, bool]:
    """How many percent of the face are left, and whether the voucher has expired."""
    if position < ALWAYS_GOOD:
        return 100, False
    roll = throw.randrange(100)
    if roll < SPENT_BELOW:
        return 0, False
    if roll < EXPIRED_BELOW:
        return 100, product.validity.days_from_issue is not None
    if roll < PARTIAL_BELOW and product.multi_draw:
        return throw.randrange(5, 100, 5), False
    return 100, False
