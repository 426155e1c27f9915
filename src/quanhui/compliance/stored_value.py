"""How much more stored value a holder may have: a single-purpose card has a limit, also after a top-up."""

from collections.abc import Collection
from datetime import datetime

from quanhui import customers, ledger
from quanhui.base.clock import local_day
from quanhui.base.db import Db
from quanhui.compliance.rules import Holding
from quanhui.compliance.store import queries
from quanhui.ledger import postings


async def stored_value_room(db: Db, holder_ids: Collection[str], *, now: datetime) -> dict[str, int]:
    """What may still be added to the stored value of each holder, in fen; never below 0.

    A person with a verified name and a company hold registered cards, others bearer cards. Top-ups of a
    holder asked for here wait for each other until their transactions end.
    """
    ids = sorted(set(holder_ids))
    if not ids:
        return {}
    await queries.lock_holders(db, ids=ids)
    limits = {
        row["holding"]: row["limit_fen"] for row in await queries.stored_value_limits(db, day=local_day(now))
    }
    people = await customers.customers(db, ids)
    held = await ledger.balances(db, [postings.stored_value(holder_id) for holder_id in ids])
    room = {}
    for holder_id in ids:
        person = people.get(holder_id)
        unknown = person is not None and person.identity_level is not customers.IdentityLevel.VERIFIED
        limit_fen = limits.get(Holding.BEARER if unknown else Holding.REGISTERED, 0)
        account = held.get(postings.stored_value(holder_id))
        room[holder_id] = max(0, limit_fen - (account.balance_fen if account else 0))
    return room
