"""Who is calling and what they may do. Roles are data; every route declares what it needs.

A permission is a word such as `buyback.sell`; a role grants it with a scope that says how far it
reaches. `entry` finds out who calls and checks the declaration of the route; the verb then narrows
what it reads and writes to the actor's reach.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from quanhui.base.errors import NotFound

PERMISSIONS: Mapping[str, str] = {
    "buyback.appeal": "appeal against a refusal",
    "buyback.read": "see buyback orders and quotes",
    "buyback.review": "decide cases that wait for a person",
    "buyback.sell": "quote and sell vouchers to the platform",
    "catalogue.manage": "define issuers, brands and products",
    "catalogue.read": "see issuers, brands and products",
    "customers.manage": "suspend customers, register enterprises and their members",
    "customers.self": "see and change one's own profile, identity, payees and consents",
    "evidence.read": "see records in the evidence log and their proofs",
    "ledger.close": "close a period of the books, and open it again together with a second person",
    "ledger.read": "see accounts, transfers and postings",
    "market.buy": "reserve and buy vouchers",
    "market.list": "put stock up for sale and take it down",
    "market.read": "see what is for sale",
    "market.reveal": "see the code of a voucher that one bought",
    "outbox.read": "see jobs that wait or failed",
    "outbox.revive": "give failed jobs another chance",
    "places.read": "see merchants, stores and regions",
    "reconciliation.approve": "decide how a reconciliation case is closed",
    "reconciliation.decide": "fetch bills again and propose how a case is closed",
    "reconciliation.read": "see bills, differences and their proofs",
    "redemption.read": "see redemptions",
    "redemption.redeem": "accept vouchers at the till",
    "redemption.reverse": "undo a redemption",
    "reports.read": "see reports",
    "sessions.self": "sign out, here or everywhere",
    "settlement.approve": "approve payouts that wait for a person",
    "settlement.channels": "stop and start payment channels",
    "settlement.handover": "hand cash or goods over a desk",
    "settlement.read": "see payouts",
    "settlement.stop": "stop payouts and lift the stop",
    "staff.audit": "see what staff did",
    "staff.manage": "add and suspend staff and partners",
    "staff.self": "see one's own account and roles",
    "statements.confirm": "agree with a merchant's statement or dispute its lines",
    "statements.read": "see what merchants are owed and were paid",
    "statements.settle": "agree on fees, answer disputes, record and confirm payments to merchants",
    "vouchers.freeze": "freeze and release vouchers",
    "vouchers.read": "see vouchers, their codes masked",
}
"""Every permission there is, and what it lets one do; `base.permission` holds the same words."""


class Scope(StrEnum):
    """How far a permission reaches, from one's own things to everything."""

    OWN = "own"
    STORE = "store"
    MERCHANT = "merchant"
    ENTERPRISE = "enterprise"
    ALL = "all"


class ActorKind(StrEnum):
    """Where an actor was identified."""

    CUSTOMER = "customer"
    STAFF = "staff"
    PARTNER = "partner"
    PUBLIC = "public"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """The one who calls: identified, with what their roles grant and where they belong."""

    kind: ActorKind
    id: str
    grants: Mapping[str, Scope]
    session_id: str | None = None
    store_id: str | None = None
    merchant_id: str | None = None
    enterprise_id: str | None = None

    def reach(self, permission: str) -> Scope | None:
        """The scope with which this actor holds a permission, or None."""
        return self.grants.get(permission)

    def require_owner(self, permission: str, owner_id: str | None) -> None:
        """Raise `NotFound` unless the thing is the actor's own or the permission reaches all.

        A stranger's id and an id that does not exist get the same answer.
        """
        if self.reach(permission) is not Scope.ALL and owner_id != self.id:
            raise NotFound


def gather_grants(
    pairs: Iterable[tuple[str, str]],
    *,
    store_id: str | None = None,
    merchant_id: str | None = None,
    enterprise_id: str | None = None,
) -> dict[str, Scope]:
    """Grants of all roles as one map from (permission, scope) pairs: of several scopes the widest counts.

    A grant that reaches a store, a merchant or an enterprise is worth nothing to an actor without one.
    """
    missing = {
        scope
        for scope, place in (
            (Scope.STORE, store_id),
            (Scope.MERCHANT, merchant_id),
            (Scope.ENTERPRISE, enterprise_id),
        )
        if place is None
    }
    widest = list(Scope)
    grants: dict[str, Scope] = {}
    for permission, word in pairs:
        scope = Scope(word)
        if scope in missing:
            continue
        held = grants.get(permission, scope)
        grants[permission] = max(held, scope, key=widest.index)
    return grants


NOBODY = Actor(kind=ActorKind.PUBLIC, id="public", grants={})


class Access(msgspec.Struct, frozen=True):
    """What a route needs: a permission, and the scopes it knows how to serve."""

    permission: str
    scopes: frozenset[Scope]


PUBLIC = "public"
"""Declared by the few routes that anyone may call."""


def needs(permission: str, *scopes: Scope) -> dict[str, Any]:
    """Route option: `@post(..., opt=needs("buyback.sell", Scope.OWN))`."""
    return {"access": Access(permission, frozenset(scopes))}


def open_to_public() -> dict[str, Any]:
    """Route option for a route that needs no identity. Each one is listed in the permissions test."""
    return {"access": PUBLIC}
