"""Taking money from a merchant's account, which never goes below nothing: what it lacks the merchant owes."""

from collections.abc import Callable, Sequence
from datetime import datetime

from quanhui import ledger
from quanhui.base.db import Db
from quanhui.ledger import InsufficientBalance, Transfer, postings


async def take_from_merchant(
    db: Db,
    post: Callable[..., Sequence[Transfer]],
    *,
    merchant_id: str,
    amount_fen: int,
    now: datetime,
) -> None:
    """Post what takes `amount_fen` in all from a merchant; `post` makes the transfers for a `short_fen`.

    The refused posting leaves the account locked, so the balance read after it is the one that counts.
    """
    try:
        await ledger.post(db, post(short_fen=0), now=now)
    except InsufficientBalance:
        code = postings.merchant_settlement(merchant_id)
        left_fen = (await ledger.balances(db, [code]))[code].balance_fen
        await ledger.post(db, post(short_fen=amount_fen - left_fen), now=now)


async def set_off(db: Db, statement_id: str, *, merchant_id: str, now: datetime) -> None:
    """Take what a merchant owes out of what it is owed. Its account is locked by a posting before this."""
    owed, owes = postings.merchant_settlement(merchant_id), postings.merchant_receivable(merchant_id)
    found = await ledger.balances(db, [owed, owes])
    if owed in found and owes in found:
        amount_fen = max(0, min(found[owed].balance_fen, -found[owes].balance_fen))
        transfers = postings.merchant_set_off(statement_id, merchant_id=merchant_id, amount_fen=amount_fen)
        await ledger.post(db, transfers, now=now)
