"""Who is calling and what they may do. Roles are data; every route declares what it needs.

A permission is a word such as `buyback.sell`; a role grants it with a scope that says how far it
reaches. `entry` finds out who calls and checks the declaration of the route; the verb then narrows
what it reads and writes to the actor's reach.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from quanhui.base.errors import NotFound


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
