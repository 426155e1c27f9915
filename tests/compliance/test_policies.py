"""What the rules allow, by legal class, region and day."""

from datetime import date

import asyncpg
import pytest

from quanhui import compliance
from quanhui.base.db import Db
from quanhui.catalogue import LegalClass
from quanhui.compliance import Method, Policy, policy_book

MAY, JULY = date(2026, 5, 1), date(2026, 7, 1)


def a_policy(policy_id: str = "a", **given) -> Policy:
    return Policy(
        **{
            "id": policy_id,
            "legal_class": "goods_voucher",
            "region": "CN",
            "effective_from": MAY,
            "effective_to": None,
            "methods": frozenset({Method.CASH}),
            "max_face_fen": 1_000_00,
            "clause_zh": "条",
            "clause_en": "clause",
            "confirmed": True,
            **given,
        }
    )


def allowed(*policies: Policy, face_fen: int = 1, region: str = "CN", day: date = JULY, kind="goods_voucher"):
    book = policy_book(policies)
    return set(book.allowed_methods(legal_class=kind, face_fen=face_fen, region=region, day=day))


def test_what_no_policy_allows_is_forbidden():
    assert allowed() == set()
    assert allowed(a_policy(), kind="multi_purpose") == set()


def test_a_policy_holds_from_its_first_day_up_to_the_day_it_ends():
    ending = a_policy(effective_to=JULY)
    assert allowed(ending, day=date(2026, 4, 30)) == set()
    assert allowed(ending, day=MAY) == {Method.CASH}
    assert allowed(ending, day=date(2026, 6, 30)) == {Method.CASH}
    assert allowed(ending, day=JULY) == set()


def test_the_face_may_reach_the_limit_and_not_pass_it():
    assert allowed(a_policy(), face_fen=1_000_00) == {Method.CASH}
    assert allowed(a_policy(), face_fen=1_000_01) == set()
    assert allowed(a_policy(max_face_fen=None), face_fen=10**9) == {Method.CASH}


def test_a_provinces_own_rule_wins_over_the_countrys():
    own = a_policy("b", region="510000", methods=frozenset({Method.GOODS}))
    assert allowed(a_policy(), own, region="510000") == {Method.GOODS}
    assert allowed(a_policy(), own, region="440000") == {Method.CASH}


def test_of_two_rules_in_force_the_newer_counts():
    newer = a_policy("b", effective_from=date(2026, 6, 1), methods=frozenset())
    assert allowed(a_policy(), newer) == set()
    assert allowed(newer, a_policy(), day=date(2026, 5, 31)) == {Method.CASH}


def test_a_version_names_exactly_one_set_of_rules():
    versions = {
        policy_book(policies).version
        for policies in ([], [a_policy()], [a_policy(confirmed=False)], [a_policy(methods=frozenset())])
    }
    assert len(versions) == 4
    both = [a_policy("a"), a_policy("b", region="510000")]
    assert policy_book(both).version == policy_book(both[::-1]).version


async def test_every_legal_class_has_a_policy_and_only_the_classes_meant_are_paid_in_cash(db: Db):
    book = await compliance.load_policies(db)
    methods = {
        kind: book.allowed_methods(legal_class=kind, face_fen=1, region="CN", day=JULY) for kind in LegalClass
    }
    assert all(book.find(legal_class=kind, region="CN", day=JULY) for kind in LegalClass)
    assert methods[LegalClass.MULTI_PURPOSE] == frozenset()
    assert {kind for kind, found in methods.items() if Method.CASH not in found} == {
        LegalClass.MARKETING_COUPON,
        LegalClass.MULTI_PURPOSE,
    }


async def test_two_policies_cannot_begin_on_one_day_for_one_class_and_region(db: Db):
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute(
            "INSERT INTO compliance.policy SELECT 'again', legal_class, region, effective_from, effective_to,"
            " methods, max_face_fen, clause_zh, clause_en, confirmed FROM compliance.policy LIMIT 1"
        )
