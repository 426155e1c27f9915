"""Rows of customers to types, and loading many at once. The SQL stands in `queries.sql`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring, Sealed
from quanhui.customers.rules import (
    TAIL_LENGTH,
    Consent,
    ConsentPurpose,
    Customer,
    Enterprise,
    IdentityLevel,
    Payee,
    PayeeAccount,
    PayeeKind,
    Person,
    Status,
    account_fingerprint,
    id_number_fingerprint,
    level_of,
    phone_fingerprint,
    seal_payee_account,
    seal_person,
)

queries = load_queries(__file__)

CUSTOMER_COLUMNS = (
    "id", "phone_fingerprint", "id_number_fingerprint", "key_version", "box", "identity_level", "verified_at",
    "elder_mode", "status", "created_at",
)  # fmt: skip
PAYEE_COLUMNS = (
    "id", "customer_id", "kind", "account_fingerprint", "tail", "key_version", "box", "created_at",
)  # fmt: skip


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """A customer to load: a person, and accounts they are paid on. With an identity number: verified."""

    person: Person
    created_at: datetime
    elder_mode: bool = False
    payees: tuple[tuple[PayeeKind, str], ...] = ()


class Enrolled(msgspec.Struct, frozen=True):
    """The ids given to a loaded customer and, in the order given, to their payee accounts."""

    customer_id: str
    payee_ids: tuple[str, ...]


async def enrol(db: Db, keyring: Keyring, rows: Sequence[Enrolment]) -> list[Enrolled]:
    """Load many new customers by COPY, for sample data and take-overs; ids come in the order given.

    The caller vouches for the data: check digits are not looked at, and payees carry the person's own
    name. Raises asyncpg's `UniqueViolationError` when a phone or identity number is known.
    """
    enrolled = [Enrolled(new_id("cus"), tuple(new_id("pya") for _ in row.payees)) for row in rows]
    pairs = list(zip(enrolled, rows, strict=True))
    await db.copy_records_to_table(
        "customer",
        schema_name="customers",
        columns=CUSTOMER_COLUMNS,
        records=_customer_records(keyring, pairs),
    )
    await db.copy_records_to_table(
        "payee", schema_name="customers", columns=PAYEE_COLUMNS, records=_payee_records(keyring, pairs)
    )
    return enrolled


def _customer_records(
    keyring: Keyring, pairs: Iterable[tuple[Enrolled, Enrolment]]
) -> Iterable[tuple[Any, ...]]:
    for ids, row in pairs:
        person = row.person
        sealed = seal_person(keyring, ids.customer_id, person)
        number = person.id_number
        yield (
            ids.customer_id,
            phone_fingerprint(keyring, person.phone),
            id_number_fingerprint(keyring, number) if number else None,
            sealed.key_version,
            sealed.box,
            level_of(person),
            row.created_at if number else None,
            row.elder_mode,
            Status.ACTIVE,
            row.created_at,
        )


def _payee_records(
    keyring: Keyring, pairs: Iterable[tuple[Enrolled, Enrolment]]
) -> Iterable[tuple[Any, ...]]:
    for ids, row in pairs:
        for payee_id, (kind, account) in zip(ids.payee_ids, row.payees, strict=True):
            holder = PayeeAccount(account=account, holder_name=row.person.real_name or "")
            sealed = seal_payee_account(keyring, payee_id, holder)
            yield (
                payee_id,
                ids.customer_id,
                kind,
                account_fingerprint(keyring, kind, account),
                account[-TAIL_LENGTH:],
                sealed.key_version,
                sealed.box,
                row.created_at,
            )


def customer_from(row: Row) -> Customer:
    return Customer(
        id=row["id"],
        sealed=Sealed(row["key_version"], row["box"]),
        identity_level=IdentityLevel(row["identity_level"]),
        verified_at=row["verified_at"],
        elder_mode=row["elder_mode"],
        status=Status(row["status"]),
        created_at=row["created_at"],
    )


def payee_from(row: Row) -> Payee:
    return Payee(
        id=row["id"],
        customer_id=row["customer_id"],
        kind=PayeeKind(row["kind"]),
        tail=row["tail"],
        account_fingerprint=row["account_fingerprint"],
        sealed=Sealed(row["key_version"], row["box"]),
        created_at=row["created_at"],
        closed_at=row["closed_at"],
    )


def consent_from(row: Row) -> Consent:
    return Consent(
        id=row["id"],
        purpose=ConsentPurpose(row["purpose"]),
        version=row["version"],
        given_at=row["given_at"],
        withdrawn_at=row["withdrawn_at"],
    )


def enterprise_from(row: Row) -> Enterprise:
    return Enterprise(
        id=row["id"],
        credit_code=row["credit_code"],
        name=row["name"],
        status=Status(row["status"]),
        created_at=row["created_at"],
    )
