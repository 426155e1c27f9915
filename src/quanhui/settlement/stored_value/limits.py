"""Which top-ups would be too much, of many at once."""

from collections.abc import Sequence
from datetime import datetime

from quanhui import compliance
from quanhui.base.db import Db
from quanhui.settlement.rules import Method, Payout


async def over_limit(db: Db, payouts: Sequence[Payout], *, now: datetime) -> set[str]:
    """Ids of the payouts in stored value for which their sellers have no room, one after another."""
    top_ups = [payout for payout in payouts if payout.method is Method.STORED_VALUE]
    room = await compliance.stored_value_room(db, {payout.seller_id for payout in top_ups}, now=now)
    over = set()
    for payout in top_ups:
        if payout.amount_fen > room[payout.seller_id]:
            over.add(payout.id)
        else:
            room[payout.seller_id] -= payout.amount_fen
    return over
