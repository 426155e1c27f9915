"""What a voucher is worth, from a table by product and days left. Pure.

The value is what disposing of the voucher well will bring. It is a function of the voucher and the
market only: nothing about the person who asks can reach these functions (invariant 10).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from quanhui.base.money import share_floor

TOO_NEAR_EXPIRY: Final = "too_near_expiry"
"""The reason of an appraisal of 0 for a kind that is bought when it has more days left."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A voucher to appraise: what is left on it, in fen, and how many local days remain after today."""

    category: str
    product_id: str
    balance_fen: int
    days_left: int


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One step from balance to value, in words; `effect_fen` is what it adds or takes."""

    code: str
    effect_fen: int
    zh: str
    en: str


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """Value and interval in fen, why, by which model, from which inputs. A value of 0 means: not bought."""

    value_fen: int
    low_fen: int
    high_fen: int
    reasons: tuple[Reason, ...]
    model_version: str
    inputs_hash: str


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """From this many days left on, a voucher brings `value_bps` of its balance, give or take `spread_bps`."""

    min_days_left: int
    value_bps: int
    spread_bps: int


class RateTable(msgspec.Struct, frozen=True, kw_only=True):
    """All rates of one version by (category, product), most days first; product "" is the category."""

    version: str
    rates: Mapping[tuple[str, str], Sequence[Rate]]

    def find(self, subject: Subject) -> Rate | None:
        """The rate of the product, else of the category; None if too near expiry or of an unknown kind."""
        rates = self.rates_of(subject)
        return next((rate for rate in rates if subject.days_left >= rate.min_days_left), None)

    def rates_of(self, subject: Subject) -> Sequence[Rate]:
        """The rates that apply to a subject, most days first; none for a kind the table does not know."""
        product = self.rates.get((subject.category, subject.product_id))
        return product or self.rates.get((subject.category, ""), ())


def appraise(table: RateTable, subjects: Sequence[Subject]) -> list[Appraisal]:
    """Appraise vouchers. Shares are rounded down to the fen; what is lost stays with the platform's risk."""
    return [_appraise_one(table, subject) for subject in subjects]


def _appraise_one(table: RateTable, subject: Subject) -> Appraisal:
    inputs = (
        f"{table.version}|{subject.category}|{subject.product_id}|{subject.balance_fen}|{subject.days_left}"
    )
    inputs_hash = hashlib.sha256(inputs.encode()).hexdigest()
    rate = table.find(subject)
    if rate is None:
        return Appraisal(
            value_fen=0,
            low_fen=0,
            high_fen=0,
            reasons=(_why_nothing(table, subject),),
            model_version=table.version,
            inputs_hash=inputs_hash,
        )
    value = share_floor(subject.balance_fen, rate.value_bps)
    spread = share_floor(subject.balance_fen, rate.spread_bps)
    percent = f"{rate.value_bps // 100}.{rate.value_bps % 100:02d}%"
    days = "长期有效" if subject.days_left > 10_000 else f"剩余 {subject.days_left} 天"  # noqa: PLR2004
    days_en = "no expiry" if subject.days_left > 10_000 else f"{subject.days_left} days left"  # noqa: PLR2004
    reason = Reason(
        code="market_rate",
        effect_fen=value - subject.balance_fen,
        zh=f"同类券行情，{days}：余额的 {percent}",
        en=f"Market rate for this kind, {days_en}: {percent} of the balance",
    )
    return Appraisal(
        value_fen=value,
        low_fen=max(value - spread, 0),
        high_fen=min(value + spread, subject.balance_fen),
        reasons=(reason,),
        model_version=table.version,
        inputs_hash=inputs_hash,
    )


def _why_nothing(table: RateTable, subject: Subject) -> Reason:
    if not table.rates_of(subject):
        return Reason(
            code="no_rate",
            effect_fen=-subject.balance_fen,
            zh="该券种暂无行情",
            en="No market rate for this kind",
        )
    return Reason(
        code=TOO_NEAR_EXPIRY,
        effect_fen=-subject.balance_fen,
        zh=f"剩余 {max(subject.days_left, 0)} 天，临近到期，暂不回收",
        en=f"{max(subject.days_left, 0)} days left: too near expiry to buy",
    )
