import pytest

from quanhui.base.access import PERMISSIONS, Actor, ActorKind, Scope, gather_grants
from quanhui.base.db import Db
from quanhui.base.errors import NotFound


async def grants_of(db: Db, role: str) -> dict[str, str]:
    rows = await db.fetch("SELECT permission, scope FROM base.role_grant WHERE role = $1", role)
    return {row["permission"]: row["scope"] for row in rows}


async def test_the_catalogue_in_the_code_and_in_the_database_are_one(db: Db):
    rows = await db.fetch("SELECT word FROM base.permission")
    assert {row["word"] for row in rows} == set(PERMISSIONS)


async def test_every_seeded_role_grants_only_catalogued_permissions(db: Db):
    rows = await db.fetch(
        "SELECT r.name, g.permission, g.scope FROM base.role r LEFT JOIN base.role_grant g ON g.role = r.name"
    )
    assert {row["name"] for row in rows} == {
        "customer", "enterprise_member", "desk_clerk", "store_manager", "merchant_operator", "operations",
        "risk_officer", "finance", "compliance", "auditor", "administrator", "partner",
    }  # fmt: skip
    assert {row["permission"] for row in rows} <= set(PERMISSIONS)
    assert {row["scope"] for row in rows} <= set(Scope)


async def test_every_permission_is_granted_to_someone(db: Db):
    rows = await db.fetch("SELECT DISTINCT permission FROM base.role_grant")
    assert {row["permission"] for row in rows} == set(PERMISSIONS)


async def test_a_customer_reaches_only_their_own_and_what_is_public(db: Db):
    grants = await grants_of(db, "customer")
    assert {word for word, scope in grants.items() if scope == Scope.ALL} == {
        "market.read",
        "catalogue.read",
        "places.read",
    }
    assert set(grants.values()) == {Scope.ALL, Scope.OWN}


async def test_an_auditor_changes_nothing(db: Db):
    grants = await grants_of(db, "auditor")
    assert {word for word, scope in grants.items() if scope == Scope.ALL and not word.endswith(".read")} == {
        "staff.audit"
    }


async def test_a_partner_reaches_no_further_than_its_own_house(db: Db):
    grants = await grants_of(db, "partner")
    everywhere = {word for word, scope in grants.items() if scope == Scope.ALL}
    assert everywhere == {"market.read", "catalogue.read", "places.read"}
    assert not {word for word in grants if word.startswith(("staff.", "customers.", "ledger.", "outbox."))}


def test_of_several_roles_the_widest_scope_counts():
    pairs = [("buyback.read", "all"), ("buyback.read", "store"), ("market.read", "own")]
    for order in (pairs, pairs[::-1]):
        assert gather_grants(order, store_id="sto_1") == {"buyback.read": Scope.ALL, "market.read": Scope.OWN}


@pytest.mark.parametrize("scope", [Scope.STORE, Scope.MERCHANT, Scope.ENTERPRISE])
def test_a_grant_that_reaches_a_place_is_nothing_to_an_actor_without_one(scope):
    assert gather_grants([("redemption.read", scope)]) == {}
    places = {"store_id": "sto_1", "merchant_id": "mer_1", "enterprise_id": "ent_1"}
    assert gather_grants([("redemption.read", scope)], **places) == {"redemption.read": scope}


def test_what_belongs_to_others_does_not_exist():
    actor = Actor(kind=ActorKind.CUSTOMER, id="cus_1", grants={"buyback.read": Scope.OWN})
    actor.require_owner("buyback.read", "cus_1")
    with pytest.raises(NotFound):
        actor.require_owner("buyback.read", "cus_2")
