"""What the worker does for the buyback outside a transaction: lock and re-key vouchers at their issuers.

Until it is locked the seller could still spend a voucher elsewhere, so its balance is looked at once more
after the lock and before title passes.

Each call carries a reference made of the order and the line, so a call whose answer was lost is simply
made again: the issuer gives the same outcome for the same reference.
"""

from collections.abc import Sequence
from datetime import datetime

from quanhui import vouchers
from quanhui.base.db import Pool, transaction
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.buyback import acceptance, store
from quanhui.buyback.rules import Line, Order, OrderState
from quanhui.buyback.terms import Terms, TermsSource
from quanhui.catalogue import BalanceStatus, Connectors, HoldRequest

HELD = (BalanceStatus.LOCKED, BalanceStatus.KNOWN)
"""What an issuer may say of a code that it has just locked for us."""


async def lock_at_issuers(
    pool: Pool, terms_source: TermsSource, connectors: Connectors, job: Job, *, now: datetime
) -> None:
    """Lock an accepted order's outside vouchers; then title passes, or the deal is off if one is refused.

    Raises `NoAnswer` when an issuer is silent; the job then comes up again.
    """
    order = await _order_in(pool, job.subject, OrderState.ACCEPTED)
    if order is None:
        return
    terms = await terms_source.get(pool, now)
    refused = await _lock(pool, terms, connectors, order, now=now)
    async with transaction(pool) as db:
        locked = await store.lock_order(db, order.id)
        assert locked is not None
        if refused:
            await acceptance.cancel(db, locked, reason=f"issuer_refused:{refused}", now=now)
        else:
            await acceptance.transfer_title(db, terms, locked, now=now)


async def rekey_at_issuers(
    pool: Pool, terms_source: TermsSource, connectors: Connectors, job: Job, *, now: datetime
) -> None:
    """Have the issuers replace the codes of vouchers that are now ours; then payout and stock go ahead.

    An issuer that cannot re-key keeps the voucher locked for us, which holds it just as well. Raises
    `NoAnswer` when an issuer is silent and `RekeyRefused` when one will not.
    """
    order = await _order_in(pool, job.subject, OrderState.TITLE_TRANSFERRED)
    if order is None:
        return
    terms = await terms_source.get(pool, now)
    codes = await _rekey(pool, terms, connectors, order, now=now)
    async with transaction(pool) as db:
        locked = await store.lock_order(db, order.id)
        assert locked is not None
        await acceptance.secure(db, locked, codes, now=now)


async def unlock_at_issuers(
    pool: Pool, terms_source: TermsSource, connectors: Connectors, job: Job, *, now: datetime
) -> None:
    """After a cancelled deal: let go of the vouchers that were locked before one was refused."""
    order = await _order_in(pool, job.subject, OrderState.CANCELLED)
    if order is None:
        return
    terms = await terms_source.get(pool, now)
    lines = acceptance.outside_lines(terms, order)
    for issuer_id, group in acceptance.by_issuer(terms, lines).items():
        requests = await _requests(pool, terms.keyring, order, group)
        await connectors[issuer_id].unlock(requests, now=now)


async def _order_in(pool: Pool, order_id: str, state: OrderState) -> Order | None:
    """The order, if it is still where the job expects it; a repeated job finds it further on."""
    async with pool.acquire() as db:
        (order,) = await store.find_orders(db, [order_id])
    return order if order.state is state else None


async def _lock(
    pool: Pool, terms: Terms, connectors: Connectors, order: Order, *, now: datetime
) -> str | None:
    """Lock every outside line and see that all is still on it; returns the reason of the first refusal."""
    lines = acceptance.outside_lines(terms, order)
    for issuer_id, group in acceptance.by_issuer(terms, lines).items():
        requests = await _requests(pool, terms.keyring, order, group)
        for outcome in await connectors[issuer_id].lock(requests, now=now):
            if not outcome.ok:
                return outcome.reason or "refused"
        checks = await connectors[issuer_id].verify([request.code for request in requests], now=now)
        for line, check in zip(group, checks, strict=True):
            if check.status not in HELD or (check.balance_fen or 0) < line.balance_fen:
                return f"changed_since_quote_{check.status}"
    return None


async def _rekey(
    pool: Pool, terms: Terms, connectors: Connectors, order: Order, *, now: datetime
) -> list[vouchers.NewCode]:
    codes = []
    lines = [line for line in acceptance.outside_lines(terms, order) if acceptance.can_rekey(terms, line)]
    for issuer_id, group in acceptance.by_issuer(terms, lines).items():
        requests = await _requests(pool, terms.keyring, order, group)
        outcomes = await connectors[issuer_id].rekey(requests, now=now)
        for line, outcome in zip(group, outcomes, strict=True):
            if not outcome.ok or outcome.new_code is None:
                raise RekeyRefused(outcome.reason)
            codes.append(
                vouchers.seal_code(
                    terms.keyring,
                    voucher_id=line.voucher_id or "",
                    issuer_id=issuer_id,
                    code=outcome.new_code,
                )
            )
    return codes


async def _requests(pool: Pool, keyring: Keyring, order: Order, lines: Sequence[Line]) -> list[HoldRequest]:
    ids = [line.voucher_id or "" for line in lines]
    async with transaction(pool) as db:
        codes = await vouchers.open_codes(db, keyring, ids)
    return [
        HoldRequest(code=codes[line.voucher_id or ""], reference=f"{order.id}-{line.number}")
        for line in lines
    ]


class RekeyRefused(Exception):
    """An issuer that had locked a voucher for us will not re-key it: a person must talk to them."""
