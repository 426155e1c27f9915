"""Invariant 7 on the pure rules: whatever is reported of whichever transfer, in whatever order, a payout has
at most one transfer that is under way or paid, and what contradicts that stops everything.
"""

from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings, strategies as st

from quanhui.settlement import (
    Attempt,
    AttemptState,
    Flag,
    Payout,
    State,
    TransferReport,
    TransferState,
    out_no_of,
)
from quanhui.settlement.rules import Effect, Handling, Method, hear

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
OVER = (AttemptState.FAILED, AttemptState.RETURNED)
MAY_RETRY = (State.FAILED, State.EXPIRED, State.RETURNED, State.CANCELLED)
HANDLING = {"busy": Handling.RETRY, "closed": Handling.EXPIRED}


def a_payout() -> Payout:
    return Payout(
        id="pot_1",
        order_id="ord_1",
        seller_id="cus_1",
        payee_id="pya_1",
        method=Method.CASH,
        amount_fen=100,
        state=State.SUBMITTED,
        store_id=None,
        voucher_ids=[],
        attempts=1,
        created_at=NOW,
        updated_at=NOW,
    )


def a_call(payout: Payout, number: int) -> Attempt:
    channel = ("first", "second")[number % 2]
    out_no = out_no_of(payout.id, number)
    return Attempt(
        out_no=out_no,
        payout_id=payout.id,
        number=number,
        state=AttemptState.CALLING,
        sends=1,
        channel=channel,
    )


steps = st.lists(
    st.one_of(
        st.just("retry"),
        st.just("cancel"),
        st.tuples(
            st.integers(1, 4),
            st.sampled_from([*TransferState]),
            st.sampled_from([None, 100, 101]),
            st.sampled_from([None, "busy", "closed", "account_unusable"]),
        ),
    ),
    max_size=25,
)


@settings(max_examples=500)
@given(steps)
def test_at_most_one_transfer_of_a_payout_is_under_way_or_paid(drawn):
    payout, paid_after_retry = a_payout(), False
    attempts = {1: a_call(payout, 1)}
    for step in drawn:
        if step == "cancel":
            if payout.state is State.AWAITING_PAYEE:
                latest = attempts[payout.attempts]
                attempts[payout.attempts] = msgspec.structs.replace(latest, closing=True)
                payout = msgspec.structs.replace(payout, cancelled_by="opr_1")
        elif step == "retry":
            if payout.state in MAY_RETRY and payout.flag is None:
                number = payout.attempts + 1
                payout = msgspec.structs.replace(
                    payout, state=State.SUBMITTED, attempts=number, cancelled_by=None
                )
                attempts[number] = a_call(payout, number)
        elif step[0] in attempts:
            number, state, amount_fen, reason = step
            known = attempts[number]
            report = TransferReport(out_no=known.out_no, state=state, reason=reason, amount_fen=amount_fen)
            heard = hear(payout, known, report, HANDLING, now=NOW)
            assert heard.attempt.channel == known.channel
            if Effect.CONFIRMED in heard.effects or Effect.PAID_AFTER_ALL in heard.effects:
                assert number == payout.attempts, "only the latest can be booked as paid"
                assert amount_fen in (None, 100), "another amount is never success"
            payout, attempts[number] = heard.payout, heard.attempt
            paid_after_retry |= payout.flag is Flag.PAID_AFTER_RETRY
        live = [each for each in attempts.values() if each.state not in OVER]
        assert len(live) <= 1
        assert not live or live[0].number == payout.attempts
        assert (payout.flag is Flag.PAID_AFTER_RETRY) >= paid_after_retry, "a grave flag stays"
        if payout.state is State.CANCELLED:
            assert attempts[payout.attempts].state is AttemptState.FAILED, "only the channel's answer cancels"
