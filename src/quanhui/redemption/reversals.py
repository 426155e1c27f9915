"""Taking a redemption back 冲正: at most what was captured, to the same voucher, still with its holder."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from quanhui import evidence, ledger, vouchers
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.outbox import Fact, emit
from quanhui.catalogue import RedeemOutcome
from quanhui.redemption import store
from quanhui.redemption.errors import NotReversible
from quanhui.redemption.merchants.money import take_from_merchant
from quanhui.redemption.recognition import SPENDABLE
from quanhui.redemption.rules import Redemption, Reversal, ReversalState
from quanhui.redemption.store import queries
from quanhui.vouchers import Spend

REVERSED = "redemption.reversed"
REVERSAL_WANTED = "redemption.reversal_wanted"


async def reverse(
    db: Db,
    redemption_id: str,
    *,
    amount_fen: int | None = None,
    reason: str,
    operator_id: str,
    now: datetime,
) -> Reversal:
    """Give an amount back to the voucher; all that is left to reverse unless named.

    An outside issuer is asked first, once a redemption: it tells reversals apart by the draw alone. Raises
    `NotFound`, and `NotReversible` beyond what was captured, while another reversal is
    under way, or when the voucher has passed to someone else.
    """
    found = await store.lock(db, [redemption_id])
    if not found:
        raise NotFound
    redemption = found[0]
    amount = redemption.reversible_fen if amount_fen is None else amount_fen
    if not 0 < amount <= redemption.reversible_fen:
        raise NotReversible(reversible_fen=redemption.reversible_fen)
    before = await reversals_of(db, [redemption.id])
    if not redemption.own_issue and any(each.state is not ReversalState.REFUSED for each in before):
        raise NotReversible(reversible_fen=0)
    voucher = (await vouchers.find_vouchers(db, [redemption.voucher_id]))[redemption.voucher_id]
    if voucher.custody not in SPENDABLE or voucher.holder_id != redemption.holder_id:
        raise NotReversible(reversible_fen=0)
    reversal_id = new_id("rvs")
    await queries.add_reversal(
        db,
        id=reversal_id,
        redemption_id=redemption.id,
        amount_fen=amount,
        reason=reason,
        operator_id=operator_id,
        now=now,
    )
    if redemption.own_issue:
        await _give_back(db, redemption, reversal_id, amount, now=now)
    else:
        await emit(db, [Fact(REVERSAL_WANTED, reversal_id)], now=now)
    return (await find_reversals(db, [reversal_id]))[0]


async def conclude_reversals(db: Db, outcomes: Mapping[str, RedeemOutcome], *, now: datetime) -> None:
    """What outside issuers answered, by reversal id. One that was answered before is passed over."""
    asked = [
        each
        for each in store.reversals_of(await queries.lock_reversals(db, ids=sorted(outcomes)))
        if each.state is ReversalState.ASKED
    ]
    redemptions = await store.lock(db, [each.redemption_id for each in asked])
    redemption_of = {redemption.id: redemption for redemption in redemptions}
    for reversal in asked:
        outcome = outcomes[reversal.id]
        if outcome.ok:
            redemption = redemption_of[reversal.redemption_id]
            await _give_back(db, redemption, reversal.id, reversal.amount_fen, now=now)
        else:
            await queries.refuse_reversal(db, id=reversal.id, refusal=outcome.reason or "refused", now=now)


async def find_reversals(db: Db, reversal_ids: Sequence[str]) -> list[Reversal]:
    """Reversals by id, in the order of their ids; unknown ones are absent."""
    return store.reversals_of(await queries.find_reversals(db, ids=list(reversal_ids)))


async def reversals_of(db: Db, redemption_ids: Sequence[str]) -> list[Reversal]:
    """What was taken back of redemptions, oldest first."""
    return store.reversals_of(await queries.reversals_of(db, redemption_ids=list(redemption_ids)))


async def _give_back(
    db: Db, redemption: Redemption, reversal_id: str, amount_fen: int, *, now: datetime
) -> None:
    await vouchers.restore(db, [Spend(redemption.voucher_id, amount_fen)])
    await queries.finish_reversal(db, id=reversal_id, now=now)
    event = evidence.Event(
        redemption.voucher_id, "redemption_reversed", redemption.id, {"amount_fen": amount_fen}
    )
    await evidence.record(db, [event], now=now)
    payload = {
        "reversal_id": reversal_id,
        "voucher_id": redemption.voucher_id,
        "merchant_id": redemption.merchant_id,
        "amount_fen": amount_fen,
    }
    await emit(db, [Fact(REVERSED, redemption.id, payload)], now=now)
    post = partial(
        ledger.postings.redemption_reversed,
        reversal_id,
        issuer_id=redemption.issuer_id,
        merchant_id=redemption.merchant_id,
        amount_fen=amount_fen,
    )
    await take_from_merchant(db, post, merchant_id=redemption.merchant_id, amount_fen=amount_fen, now=now)
