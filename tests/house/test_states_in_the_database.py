"""States and kinds stand twice, in Python and in the database: here the two are held equal, both ways."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from enum import StrEnum

import pytest

import quanhui
from quanhui.base.access import ActorKind, Scope
from quanhui.base.db import Db
from quanhui.base.money import Dealing
from quanhui.base.states import Machine, machine
from quanhui.buyback.rules import OrderState, QuoteState, Refusal
from quanhui.catalogue import Capability, CheckAlgorithm, LegalClass, ProductStatus
from quanhui.compliance import Holding, Method
from quanhui.customers import ConsentPurpose, IdentityLevel, MemberRole, PayeeKind, Status as CustomerStatus
from quanhui.ledger import Book, HoldState, Kind
from quanhui.ledger.rules import PeriodLength, PeriodState
from quanhui.places import RegionLevel, StoreKind
from quanhui.redemption.merchants.rules import (
    ClaimKind,
    DisputeState,
    LineKind,
    StatementState,
    TransferState,
)
from quanhui.redemption.rules import ReversalState, State as RedemptionState
from quanhui.redistribution.rules import Decision, ListingState, PurchaseState
from quanhui.risk import Outcome
from quanhui.settlement.gateway import BillKind
from quanhui.settlement.reconciliation.rules import CaseState, Class, Outcome as CaseOutcome
from quanhui.settlement.routing import Wait
from quanhui.settlement.rules import (
    AttemptState,
    Flag,
    Handling,
    Method as PayoutMethod,
    State as PayoutState,
)
from quanhui.staff.rules import Status as StaffStatus
from quanhui.vouchers import Custody, Integrity, Value

COLUMNS: dict[str, type[StrEnum]] = {
    "base.role_grant.scope": Scope,
    "buyback.buyback_order.dealing": Dealing,
    "buyback.buyback_order.method": Method,
    "buyback.buyback_order.state": OrderState,
    "buyback.line.refusal": Refusal,
    "buyback.quote.state": QuoteState,
    "catalogue.issuer.capabilities": Capability,
    "catalogue.product.code_check": CheckAlgorithm,
    "catalogue.product.legal_class": LegalClass,
    "catalogue.product.status": ProductStatus,
    "compliance.policy.methods": Method,
    "compliance.stored_value_limit.holding": Holding,
    "customers.consent.purpose": ConsentPurpose,
    "customers.customer.identity_level": IdentityLevel,
    "customers.customer.status": CustomerStatus,
    "customers.enterprise.status": CustomerStatus,
    "customers.enterprise_member.role": MemberRole,
    "customers.payee.kind": PayeeKind,
    "ledger.chart.book": Book,
    "ledger.chart.kind": Kind,
    "ledger.hold.state": HoldState,
    "ledger.period.length": PeriodLength,
    "ledger.period.state": PeriodState,
    "places.region.level": RegionLevel,
    "places.store.kind": StoreKind,
    "redemption.merchant_claim.kind": ClaimKind,
    "redemption.merchant_transfer.state": TransferState,
    "redemption.redemption.state": RedemptionState,
    "redemption.reversal.state": ReversalState,
    "redemption.statement.state": StatementState,
    "redemption.statement_dispute.state": DisputeState,
    "redemption.statement_line.kind": LineKind,
    "redistribution.dispute.decision": Decision,
    "redistribution.listing.state": ListingState,
    "redistribution.purchase.dealing": Dealing,
    "redistribution.purchase.state": PurchaseState,
    "risk.decision.outcome": Outcome,
    "settlement.attempt.state": AttemptState,
    "settlement.channel.payee_kinds": PayeeKind,
    "settlement.bill_event.kind": BillKind,
    "settlement.bill_line.kind": BillKind,
    "settlement.custody_leg.kind": BillKind,
    "settlement.payout.flag": Flag,
    "settlement.payout.method": PayoutMethod,
    "settlement.payout.state": PayoutState,
    "settlement.payout.waiting": Wait,
    "settlement.reason.handling": Handling,
    "settlement.reconciliation_case.class": Class,
    "settlement.reconciliation_case.kind": BillKind,
    "settlement.reconciliation_case.proposal": CaseOutcome,
    "settlement.reconciliation_case.state": CaseState,
    "staff.operator.status": StaffStatus,
    "staff.partner.status": StaffStatus,
    "vouchers.voucher.custody": Custody,
    "vouchers.voucher.integrity": Integrity,
    "vouchers.voucher.value": Value,
}
"""Columns that hold any member of an enum."""

PARTS: dict[str, set[StrEnum]] = {
    "base.role.holder": {ActorKind.CUSTOMER, ActorKind.STAFF, ActorKind.PARTNER},
    "base.session.kind": {ActorKind.CUSTOMER, ActorKind.STAFF},
    "risk.rule.outcome": {Outcome.HOLD, Outcome.REVIEW, Outcome.REJECT},
}
"""Columns that hold some: nobody signs in as the public, and no rule fires in order to allow."""


def machines() -> dict[str, Machine]:
    """Every machine of every domain, by name."""
    found: dict[str, Machine] = {}
    for module in pkgutil.walk_packages(quanhui.__path__, "quanhui."):
        if not module.name.endswith(".rules"):
            continue
        for each in getattr(importlib.import_module(module.name), "MACHINES", ()):
            assert found.setdefault(each.name, each) is each, f"two machines named {each.name}"
    return found


def moves(one: Machine) -> set[tuple[str, str]]:
    return {(before, after) for before, afters in one.moves.items() for after in afters}


def states(one: Machine) -> set[str]:
    return {state for move in moves(one) for state in move}


async def guards(db: Db) -> dict[str, str]:
    """The column that each machine guards, as `schema.table.column`."""
    rows = await db.fetch(
        "SELECT tgrelid::regclass::text AS name, encode(tgargs, 'escape') AS arguments FROM pg_trigger"
        " WHERE tgfoid = 'base.guard_move'::regproc"
    )
    found = {}
    for row in rows:
        name, column = row["arguments"].split("\\000")[:2]
        assert name not in found, f"{name} guards two columns"
        found[name] = f"{row['name']}.{column}"
    return found


async def listed(db: Db) -> dict[str, set[str]]:
    """The words that constraints allow in a column of words, as `schema.table.column`."""
    rows = await db.fetch(
        "SELECT conrelid::regclass::text AS name, pg_get_constraintdef(oid) AS rule FROM pg_constraint"
        " WHERE contype = 'c' AND connamespace::regnamespace::text <> 'information_schema'"
    )
    return {f"{row['name']}.{column}": words for row in rows for column, words in _words(row["rule"])}


def _words(rule: str) -> Iterator[tuple[str, set[str]]]:
    if found := re.fullmatch(r"CHECK \(\((\w+) (?:= ANY \(|<@ )ARRAY\[(.*::text.*)\]\)?\)\)", rule):
        yield found[1], set(re.findall(r"'(\w+)'::text", found[2]))


async def test_every_machine_and_the_table_of_moves_are_equal_both_ways(db: Db):
    rows = await db.fetch("SELECT machine, from_state, to_state FROM base.move")
    in_the_database: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        in_the_database.setdefault(row["machine"], set()).add((row["from_state"], row["to_state"]))
    assert in_the_database == {name: moves(each) for name, each in machines().items()}
    assert len(in_the_database) >= 11


async def test_every_machine_guards_one_column_whose_states_it_knows(db: Db):
    guarded = await guards(db)
    assert set(guarded) == set(machines())
    for name, column in guarded.items():
        assert states(machines()[name]) == set(COLUMNS[column]), name


async def test_every_column_of_words_allows_exactly_the_members_of_its_enum(db: Db):
    wanted = {column: set(map(str, members)) for column, members in (*COLUMNS.items(), *PARTS.items())}
    assert await listed(db) == wanted


def test_a_machine_knows_its_moves_and_no_others():
    order = machines()["buyback_order"]
    assert order.may("quoted", "accepted")
    assert not order.may("accepted", "quoted")
    assert not order.may("closed", "quoted")
    assert order.before("quoted") == ["appealed", "manual_review", "screening"]


def test_a_machine_with_a_state_that_its_enum_lacks_cannot_be_built():
    with pytest.raises(ValueError, match="not states of QuoteState"):
        machine("quote", QuoteState, {QuoteState.ISSUED: [OrderState.SETTLED]})
