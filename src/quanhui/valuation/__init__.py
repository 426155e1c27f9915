"""What a voucher is worth 估值, and why.

Today's door opens on a documented table (`valuation.rate`): by product or category and days left, the
share of the balance that disposing of the voucher brings, with an interval. A learned model will stand
behind the same door: subjects in, appraisals out, each with its reasons, model version and a hash of its
inputs.

The value depends on the voucher and the market only, never on who asks.
"""

from quanhui.valuation.rules import TOO_NEAR_EXPIRY, Appraisal, Rate, RateTable, Reason, Subject, appraise
from quanhui.valuation.store import cached_rates, load_rates

__all__ = [
    "TOO_NEAR_EXPIRY", "Appraisal", "Rate", "RateTable", "Reason", "Subject", "appraise", "cached_rates",
    "load_rates",
]  # fmt: skip
