"""Whether a submission may go on, and why: rules, counters, and decisions with their whole tree."""

import asyncio
from datetime import timedelta

import pytest

from quanhui import risk
from quanhui.base.db import Db, Pool, in_transaction
from quanhui.risk import Check, Outcome, Rule, RuleBook, Submission, judge

HOUR = timedelta(hours=1)


def a_rule(code: str, outcome: Outcome, *, threshold: int = 3, shadow: bool = False) -> Rule:
    return Rule(
        code=code,
        measure="seen",
        threshold=threshold,
        outcome=outcome,
        shadow=shadow,
        reason_zh="因",
        reason_en="why",
    )


def book(*rules: Rule) -> RuleBook:
    return RuleBook(rules, "rules-1")


async def assess(
    db: Db, rules: RuleBook | None = None, *, at, seller: str = "cus_1", **given
) -> risk.Decision:
    offered = {"offered": 1, "refused": 0, "amount_fen": 100_00, "device_id": None, **given}
    submission = Submission(order_id="ord_1", seller_id=seller, **offered)
    (decision,) = await risk.assess(db, rules or await risk.load_rules(db, 1), [submission], now=at)
    return decision


def rules_of(decision: risk.Decision) -> list[str]:
    return [check.rule for check in decision.tree.deciding()]


def test_a_measure_fires_above_its_threshold_and_not_at_it():
    rules = book(a_rule("limit", Outcome.HOLD))
    assert judge(rules, {"seen": 3}, ()).outcome is Outcome.ALLOW
    assert judge(rules, {"seen": 4}, ()).outcome is Outcome.HOLD
    assert judge(rules, {}, ()).outcome is Outcome.ALLOW


def test_the_worst_of_the_rules_that_act_decides_and_only_those_that_did_are_named():
    rules = book(a_rule("h", Outcome.HOLD), a_rule("j", Outcome.REJECT), a_rule("v", Outcome.REVIEW))
    tree = judge(rules, {"seen": 4}, ())
    assert (tree.outcome, [check.rule for check in tree.deciding()]) == (Outcome.REJECT, ["j"])
    assert [check.rule for check in tree.checks] == ["h", "j", "v"]


def test_a_shadow_rule_is_noted_and_never_acts():
    tree = judge(book(a_rule("shadow", Outcome.REJECT, shadow=True)), {"seen": 99}, ())
    assert (tree.outcome, tree.deciding()) == (Outcome.ALLOW, ())
    assert [(check.rule, check.outcome, check.shadow) for check in tree.checks] == [
        ("shadow", Outcome.REJECT, True)
    ]
    beside = judge(
        book(a_rule("shadow", Outcome.HOLD, shadow=True), a_rule("real", Outcome.HOLD)), {"seen": 99}, ()
    )
    assert [check.rule for check in beside.deciding()] == ["real"]


def test_a_refused_line_refuses_itself_and_is_never_the_reason_for_the_whole():
    fallen = Check(rule="unknown", outcome=Outcome.REJECT, line=1)
    assert judge(book(), {}, [fallen]).outcome is Outcome.ALLOW
    rejected = judge(book(a_rule("limit", Outcome.REJECT)), {"seen": 4}, [fallen])
    assert [check.rule for check in rejected.deciding()] == ["limit"]
    assert fallen in rejected.checks


def test_a_submission_that_is_allowed_has_nothing_that_decided_against_it():
    assert judge(book(a_rule("limit", Outcome.HOLD)), {"seen": 0}, ()).deciding() == ()


async def test_too_many_refusals_within_an_hour_reject_and_the_tree_names_the_rule(db: Db, now):
    assert (await assess(db, at=now, offered=20, refused=20)).tree.outcome is Outcome.ALLOW
    decision = await assess(db, at=now, refused=1)
    assert (decision.tree.outcome, rules_of(decision)) == (Outcome.REJECT, ["refusals-account"])
    kept = await db.fetchrow(
        "SELECT subject, outcome, tree, rules FROM risk.decision WHERE id = $1", decision.id
    )
    assert (kept["subject"], kept["outcome"], kept["rules"]) == ("ord_1", "reject", "rules-1")
    (fired,) = [check for check in kept["tree"] if check["rule"] == "refusals-account"]
    assert (fired["seen"], fired["threshold"], fired["outcome"]) == (21, 20, "reject")
    assert fired["reason_zh"]
    assert fired["reason_en"]


async def test_another_account_is_not_rejected_with_it_but_the_device_they_share_is(db: Db, now):
    await assess(db, at=now, offered=31, refused=31, device_id="dev_1")
    assert (await assess(db, at=now, seller="cus_2", device_id="dev_2")).tree.outcome is Outcome.ALLOW
    shared = await assess(db, at=now, seller="cus_3", device_id="dev_1")
    assert rules_of(shared) == ["refusals-device"]


async def test_the_hour_slides_and_does_not_start_anew_on_the_hour(db: Db, now):
    """`now` is on the hour: what was refused a minute ago still counts, an hour and a half later no more."""
    before = now - timedelta(minutes=1)
    await assess(db, at=before, offered=100, refused=100)
    assert (await assess(db, at=now)).tree.outcome is Outcome.REJECT
    assert (await assess(db, at=now + 0.5 * HOUR)).tree.outcome is Outcome.REJECT
    assert (await assess(db, at=now + HOUR)).tree.outcome is Outcome.ALLOW


@pytest.mark.parametrize(
    ("given", "rule", "outcome"),
    [
        ({"amount_fen": 50_000_01}, "amount-order", Outcome.HOLD),
        ({"offered": 2001}, "offers-account", Outcome.REVIEW),
        ({"offered": 3001, "device_id": "dev_1"}, "offers-device", Outcome.REVIEW),
        ({"amount_fen": 200_000_01}, "amount-account", Outcome.REVIEW),
    ],
)
async def test_each_limit_of_the_seeded_rules_fires(db: Db, now, given, rule, outcome):
    decision = await assess(db, at=now, **given)
    assert decision.tree.outcome is outcome
    assert rule in rules_of(decision)


async def test_amounts_of_a_day_add_up_and_are_forgotten_after_it(db: Db, now):
    for hours in range(4):
        await assess(db, at=now + hours * HOUR, amount_fen=50_000_00)
    assert rules_of(await assess(db, at=now + 4 * HOUR, amount_fen=1)) == ["amount-account"]
    assert (await assess(db, at=now + 26 * HOUR, amount_fen=1)).tree.outcome is Outcome.ALLOW


async def test_structuring_is_only_noted_because_its_rule_runs_in_shadow(db: Db, now):
    for _ in range(4):
        decision = await assess(db, at=now, amount_fen=4_999_00)
    (noted,) = [check for check in decision.tree.checks if check.rule == "structuring"]
    assert (noted.seen, noted.outcome, noted.shadow) == (4, Outcome.HOLD, True)
    assert decision.tree.outcome is Outcome.ALLOW


@pytest.mark.parametrize(("amount_fen", "near"), [(4_749_99, 0), (4_750_00, 1), (4_999_99, 1), (5_000_00, 0)])
async def test_just_under_a_reporting_limit_is_near_it(db: Db, now, amount_fen, near):
    decision = await assess(db, at=now, amount_fen=amount_fen)
    assert [check.seen for check in decision.tree.checks if check.rule == "structuring"] == [near]


async def test_a_payee_of_more_than_three_sellers_in_a_day_is_held_and_of_one_never(db: Db, now):
    rules = await risk.load_rules(db, 1)

    async def pay(seller: int, at) -> Outcome:
        use = risk.PayeeUse(order_id="ord_1", seller_id=f"cus_{seller}", payee_id="pya_1")
        return (await risk.assess_payees(db, rules, [use], now=at))["ord_1"].outcome

    assert [await pay(1, now) for _ in range(9)] == [Outcome.ALLOW] * 9
    assert [await pay(seller, now) for seller in (2, 3, 4)] == [Outcome.ALLOW, Outcome.ALLOW, Outcome.HOLD]
    assert await pay(5, now + timedelta(days=1)) is Outcome.ALLOW
    kept = await db.fetch("SELECT outcome FROM risk.decision")
    assert [row["outcome"] for row in kept] == ["hold"]


async def test_submissions_at_once_are_all_counted(pool: Pool, now):
    async def one(_: int) -> risk.Decision:
        return await in_transaction(pool, lambda db: assess(db, at=now, refused=1, device_id="dev_1"))

    decisions = await asyncio.gather(*map(one, range(24)))
    seen = [
        check.seen for each in decisions for check in each.tree.checks if check.rule == "refusals-account"
    ]
    assert sorted(seen) == list(range(1, 25))
    assert sum(each.tree.outcome is Outcome.REJECT for each in decisions) == 4
