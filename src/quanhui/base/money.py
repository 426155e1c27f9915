"""Money is whole fen 分. Every division names its rounding; nothing is ever a float."""

import re
from collections.abc import Sequence
from enum import StrEnum

BPS = 10_000
"""Basis points in one: a rate of 800 is 8%."""

_YUAN = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,2}))?")


class Dealing(StrEnum):
    """Whose money an order moves: our own for a voucher we own, or others', split by an institution."""

    PRINCIPAL = "principal"
    CONSIGNMENT = "consignment"


def share_floor(amount_fen: int, rate_bps: int) -> int:
    """`amount × rate`, rounded down to the fen; the remainder stays with the amount."""
    return amount_fen * rate_bps // BPS


def share_half_up(amount_fen: int, rate_bps: int) -> int:
    """`amount × rate`, rounded half up to the fen. For fees, where the seller sees the rate."""
    return (amount_fen * rate_bps + BPS // 2) // BPS


def split_by_largest_remainder(amount_fen: int, weights: Sequence[int]) -> list[int]:
    """Divide an amount over weights so that the parts add up exactly.

    Each part is floored, then the fen left over go one each to the largest remainders (ties to the
    earlier part). Raises `ValueError` when there is no positive weight or a negative one.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError("weights must be non-negative with a positive sum")
    parts = [amount_fen * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(amount_fen * weights[i] % total), i))
    for i in by_remainder[: amount_fen - sum(parts)]:
        parts[i] += 1
    return parts


def yuan(amount_fen: int) -> str:
    """`123456` → `'1,234.56'`: the only place where fen become yuan for people to read."""
    sign = "-" if amount_fen < 0 else ""
    whole, fen = divmod(abs(amount_fen), 100)
    return f"{sign}{whole:,}.{fen:02d}"


def yuan_text(amount_fen: int) -> str:
    """`123456` → `'1234.56'`: as other parties' protocols write it. Raises `ValueError` below zero."""
    if amount_fen < 0:
        raise ValueError("no protocol writes a negative amount")
    whole, fen = divmod(amount_fen, 100)
    return f"{whole}.{fen:02d}"


def fen_of(text: str) -> int:
    """`'1234.56'` → `123456`, exactly. Raises `ValueError` for all but plain yuan, two places at most.

    A sign, an exponent, NaN, a third place, separators and more digits than a bigint holds are all
    refused: what another party writes is either money or nothing.
    """
    found = _YUAN.fullmatch(text)
    if found is None:
        raise ValueError("not an amount in yuan")
    whole, places = found.groups()
    return int(whole) * 100 + int((places or "").ljust(2, "0"))
