"""What redemption does outside: asking issuers, under references that make a repeat safe."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui import vouchers
from quanhui.base.db import Pool, transaction
from quanhui.base.http import NoAnswer
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.catalogue import Connectors, RedeemOutcome, RedeemRequest
from quanhui.redemption import store
from quanhui.redemption.actions import conclude
from quanhui.redemption.errors import VoucherNotUsable
from quanhui.redemption.reversals import conclude_reversals, find_reversals
from quanhui.redemption.rules import ReversalState

PARTY = "issuer"


class _Ask(msgspec.Struct, frozen=True):
    """One question to an issuer; `id` names what the answer is about."""

    id: str
    issuer_id: str
    voucher_id: str
    amount_fen: int
    reference: str


async def keep_refusal(pool: Pool, refused: VoucherNotUsable, *, now: datetime) -> None:
    """Keep why a code was refused, in a transaction of its own: that of the request is rolled back."""
    if refused.refusal is not None:
        async with transaction(pool) as db:
            await store.add_refusals(db, [refused.refusal], now=now)


async def ask_issuers(
    pool: Pool, keyring: Keyring, connectors: Connectors, redemption_ids: Sequence[str], *, now: datetime
) -> None:
    """Ask outside issuers to draw what was set aside here, and capture or void accordingly.

    The reference is the redemption's id, so asking again draws nothing twice. Raises `NoAnswer` when any
    issuer was silent: those redemptions wait, and the sweep has them asked again.
    """
    async with pool.acquire() as db:
        waiting = [each for each in await store.find(db, redemption_ids) if each.awaits_issuer]
        codes = await vouchers.open_codes(db, keyring, [each.voucher_id for each in waiting])
    asks = [
        _Ask(each.id, each.issuer_id, each.voucher_id, each.authorised_fen, reference=each.id)
        for each in waiting
    ]
    outcomes = await _ask(connectors, asks, codes, reversing=False, now=now)
    async with transaction(pool) as db:
        await conclude(db, outcomes, now=now)
    if len(outcomes) < len(asks):
        raise NoAnswer(party=PARTY)


async def ask_unknown(
    pool: Pool, keyring: Keyring, connectors: Connectors, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Ask again about the redemptions that jobs name. Raises `NoAnswer`: repeat."""
    await ask_issuers(pool, keyring, connectors, [job.subject for job in jobs], now=now)


async def reverse_at_issuers(
    pool: Pool, keyring: Keyring, connectors: Connectors, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Ask outside issuers to take back draws that jobs name by reversal. Raises `NoAnswer`: repeat."""
    async with pool.acquire() as db:
        reversals = await find_reversals(db, [job.subject for job in jobs])
        asked = [each for each in reversals if each.state is ReversalState.ASKED]
        found = {each.id: each for each in await store.find(db, [each.redemption_id for each in asked])}
        codes = await vouchers.open_codes(db, keyring, [each.voucher_id for each in found.values()])
    asks = [
        _Ask(each.id, drawn.issuer_id, drawn.voucher_id, each.amount_fen, reference=drawn.id)
        for each, drawn in ((each, found[each.redemption_id]) for each in asked)
    ]
    outcomes = await _ask(connectors, asks, codes, reversing=True, now=now)
    async with transaction(pool) as db:
        await conclude_reversals(db, outcomes, now=now)
    if len(outcomes) < len(asks):
        raise NoAnswer(party=PARTY)


async def _ask(
    connectors: Connectors, asks: Sequence[_Ask], codes: dict[str, str], *, reversing: bool, now: datetime
) -> dict[str, RedeemOutcome]:
    """The answers that came, by id; each issuer is asked once for all that concerns it."""
    outcomes: dict[str, RedeemOutcome] = {}
    for issuer_id in sorted({ask.issuer_id for ask in asks}):
        own = [ask for ask in asks if ask.issuer_id == issuer_id]
        requests = [
            RedeemRequest(code=codes[ask.voucher_id], amount_fen=ask.amount_fen, reference=ask.reference)
            for ask in own
        ]
        connector = connectors[issuer_id]
        call = connector.reverse if reversing else connector.redeem
        try:
            answers = await call(requests, now=now)
        except NoAnswer:
            continue
        outcomes |= {ask.id: answer for ask, answer in zip(own, answers, strict=True)}
    return outcomes
