"""What the rules allow, as data: by legal class, region and day, each with its clause. Pure."""

import hashlib
from collections.abc import Sequence
from datetime import date
from enum import StrEnum

import msgspec


class Method(StrEnum):
    """How a seller is paid 收款方式."""

    CASH = "cash"
    STORED_VALUE = "stored_value"
    GOODS = "goods"


COUNTRY = "CN"
"""The region of rules that hold everywhere; a province's own rule wins over it."""


class Holding(StrEnum):
    """How the holder of stored value is known: by a verified name, or not."""

    REGISTERED = "registered"
    BEARER = "bearer"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One rule in force from a day on: which methods are allowed, up to which face in fen, and why."""

    id: str
    legal_class: str
    region: str
    effective_from: date
    effective_to: date | None
    methods: frozenset[Method]
    max_face_fen: int | None
    clause_zh: str
    clause_en: str
    confirmed: bool

    def holds_on(self, day: date) -> bool:
        """Whether the rule is in force on a day."""
        return self.effective_from <= day and (self.effective_to is None or day < self.effective_to)


class PolicyBook(msgspec.Struct, frozen=True):
    """All policies, newest first. `version` names exactly this set of rules, for replay."""

    policies: tuple[Policy, ...]
    version: str

    def find(self, *, legal_class: str, region: str, day: date) -> Policy | None:
        """The rule for a class on a day: the region's own before the country's; None when there is none."""
        for wanted in (region, COUNTRY):
            for policy in self.policies:
                if policy.legal_class == legal_class and policy.region == wanted and policy.holds_on(day):
                    return policy
        return None

    def allowed_methods(
        self, *, legal_class: str, face_fen: int, region: str, day: date
    ) -> frozenset[Method]:
        """How a voucher may be paid for; empty when it may not be bought back at all."""
        policy = self.find(legal_class=legal_class, region=region, day=day)
        if policy is None or (policy.max_face_fen is not None and face_fen > policy.max_face_fen):
            return frozenset()
        return policy.methods


def policy_book(policies: Sequence[Policy]) -> PolicyBook:
    """A book with its version: a hash of every rule in it."""
    newest_first = tuple(
        sorted(policies, key=lambda policy: (policy.effective_from, policy.id), reverse=True)
    )
    digest = hashlib.sha256(msgspec.json.encode(newest_first, order="deterministic")).hexdigest()
    return PolicyBook(newest_first, f"policies-{digest[:12]}")
