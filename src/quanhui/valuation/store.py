"""The table of rates, read whole."""

from quanhui.base.cached import Cached
from quanhui.base.db import Reader, load_queries
from quanhui.valuation.rules import Rate, RateTable

queries = load_queries(__file__)


async def load_rates(db: Reader, version: int) -> RateTable:
    rates: dict[tuple[str, str], list[Rate]] = {}
    for row in await queries.read_rates(db):
        rate = Rate(
            min_days_left=row["min_days_left"], value_bps=row["value_bps"], spread_bps=row["spread_bps"]
        )
        rates.setdefault((row["category"], row["product_id"]), []).append(rate)
    return RateTable(version=f"table-{version}", rates=rates)


def cached_rates() -> Cached[RateTable]:
    """The table of rates as a process keeps it."""
    return Cached("valuation", load_rates)
