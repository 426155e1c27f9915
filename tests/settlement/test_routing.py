"""The choice of a channel, for any transfers and any channels: pure, so every rule is tried on many."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from quanhui.settlement import Channel, Standing, TransferReport, TransferState, Wait
from quanhui.settlement.routing import (
    LONGEST_REST,
    MOST_SILENCES,
    Waiting,
    after_answers,
    cost_of,
    is_silence,
    plan,
    standing,
)

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
NAMES = ("a", "b", "c")
KINDS = ("wechat", "bank_card")


def channel(name: str = "a", **given) -> Channel:
    terms = {
        "enabled": True,
        "priority": 1,
        "min_fen": 1,
        "max_fen": 1_000,
        "cost_fen": 0,
        "cost_bps": 0,
        "day_limit_fen": None,
        "payee_kinds": KINDS,
        **given,
    }
    return Channel(name=name, zh=name, en=name, **terms)


def transfer(number: int = 0, **given) -> Waiting:
    terms = {"amount_fen": 100, "payee_kind": "wechat", **given}
    return Waiting(out_no=f"n{number}", payout_id=f"p{number}", **terms)


amounts = st.integers(1, 1_200)
channels = st.lists(
    st.builds(
        channel,
        st.sampled_from(NAMES),
        enabled=st.booleans(),
        priority=st.integers(0, 3),
        min_fen=st.integers(1, 300),
        max_fen=st.integers(300, 1_100),
        cost_fen=st.integers(0, 5),
        cost_bps=st.integers(0, 60),
        day_limit_fen=st.none() | st.integers(0, 3_000),
        payee_kinds=st.sampled_from([KINDS, ("wechat",), ()]),
        stopped_at=st.sampled_from([None, None, NOW]),
        rests_until=st.sampled_from([None, None, NOW - timedelta(1), NOW + timedelta(1)]),
    ),
    max_size=3,
    unique_by=lambda each: each.name,
)
transfers = st.lists(
    st.tuples(
        amounts,
        st.sampled_from(KINDS),
        st.none() | st.sampled_from(NAMES),
        st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
    ),
    max_size=12,
).map(
    lambda drawn: [
        transfer(n, amount_fen=fen, payee_kind=kind, channel=before, refused_by=refused)
        for n, (fen, kind, before, refused) in enumerate(drawn)
    ]
)


@given(channels, transfers)
def test_each_transfer_goes_once_or_waits_and_never_where_it_may_not(known, due):
    made = plan(due, known, now=NOW)
    by_name = {each.name: each for each in known}
    handled = [each.transfer for each in made.going] + [each for each, _ in made.waiting]
    assert sorted(handled, key=str) == sorted(due, key=str)
    for each in made.going:
        chosen, one = by_name[each.channel], each.transfer
        assert standing(chosen, NOW) in (Standing.RUNNING, Standing.PROBING)
        assert each.cost_fen == cost_of(chosen, one.amount_fen)
        if one.channel is None:
            assert chosen.min_fen <= one.amount_fen <= chosen.max_fen
            assert one.payee_kind in chosen.payee_kinds
        else:
            assert each.channel == one.channel, "what was sent once stays where it was sent"


@given(channels, transfers)
def test_no_channel_passes_its_day_and_one_transfer_tries_a_rested_one(known, due):
    made = plan(due, known, now=NOW)
    for each in known:
        through = [going.transfer for going in made.going if going.channel == each.name]
        new_fen = sum(one.amount_fen for one in through if one.channel is None)
        assert made.channels[each.name].used_fen == new_fen
        assert each.day_limit_fen is None or new_fen <= each.day_limit_fen
        if standing(each, NOW) is Standing.PROBING:
            assert len(through) <= 1


def test_the_cheapest_is_chosen_then_the_first_and_one_that_refused_comes_last():
    def chosen(*known: Channel, **given) -> str:
        return plan([transfer(**given)], known, now=NOW).going[0].channel

    cheap, dear = channel("b", cost_fen=1), channel("a", cost_fen=2)
    assert chosen(dear, cheap) == "b"
    assert chosen(dear, cheap, refused_by=("b",)) == "a"
    assert chosen(cheap, refused_by=("b",)) == "b", "better than none"
    assert chosen(channel("a", priority=2), channel("b", priority=1)) == "b"
    assert chosen(channel("a", cost_fen=9), channel("b", cost_bps=500), amount_fen=1_000) == "a"


def test_why_it_waits_is_said():
    def why(*known: Channel) -> Wait:
        return plan([transfer()], known, now=NOW).waiting[0][1]

    assert why() is Wait.NO_CHANNEL_PAYS
    assert why(channel(payee_kinds=("bank_card",))) is Wait.NO_CHANNEL_PAYS
    assert why(channel(max_fen=99)) is Wait.NO_CHANNEL_PAYS
    assert why(channel(stopped_at=NOW), channel("b", max_fen=99)) is Wait.CHANNELS_CLOSED
    assert why(channel(rests_until=NOW + timedelta(1))) is Wait.CHANNELS_CLOSED
    assert why(channel(day_limit_fen=99), channel("b", stopped_at=NOW)) is Wait.CHANNEL_DAY_LIMIT


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), max_size=12))
def test_a_channel_rests_after_silences_in_a_row_and_only_then(batches):
    known, row, now = channel(), 0, NOW
    for silent in batches:
        known = after_answers(known, silent, now=now)
        for each in silent:
            row = row + 1 if each else 0
        assert (known.rests_until is not None) == (row >= MOST_SILENCES)
        assert known.rests_until is None or known.rests_until - now <= LONGEST_REST
        now += timedelta(minutes=10)


def test_silence_is_no_answer_or_a_broken_other_side():
    def silent(state: TransferState, reason: str | None) -> bool:
        return is_silence(TransferReport(out_no="n", state=state, reason=reason))

    assert silent(TransferState.UNKNOWN, "no_answer")
    assert silent(TransferState.UNKNOWN, "http_503_maintenance")
    assert not silent(TransferState.UNKNOWN, "http_400_bad_request")
    assert not silent(TransferState.UNKNOWN, None)
    assert not silent(TransferState.FAILED, "no_answer")


@given(st.integers(1, 10**12), st.integers(0, 10_000), st.integers(0, 100))
def test_a_part_of_a_fen_costs_a_whole_one(amount_fen, bps, fixed_fen):
    cost = cost_of(channel(cost_fen=fixed_fen, cost_bps=bps), amount_fen) - fixed_fen
    assert (cost - 1) * 10_000 < amount_fen * bps <= cost * 10_000
