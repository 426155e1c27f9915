"""Rows of staff to types, and loading many at once. The SQL stands in `queries.sql`."""

from collections.abc import Sequence
from datetime import datetime

from quanhui.base.access import Scope
from quanhui.base.db import Db, Row, load_queries
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring, Sealed
from quanhui.staff.errors import RoleNeedsPlace, UnknownRole
from quanhui.staff.rules import NewOperator, Operator, OperatorSecrets, Status, plain_login, seal_operator

queries = load_queries(__file__)

OPERATOR_COLUMNS = (
    "id", "login", "password_hash", "key_version", "box", "store_id", "merchant_id", "created_at",
)  # fmt: skip


async def enrol(db: Db, keyring: Keyring, rows: Sequence[NewOperator], *, now: datetime) -> list[str]:
    """Load many new operators by COPY, for sample data and take-overs; ids come in the order given.

    Nothing is audited. Raises `UnknownRole`, `RoleNeedsPlace`, and asyncpg's `UniqueViolationError` for a
    login that is taken.
    """
    await check_roles(db, rows)
    ids = [new_id("stf") for _ in rows]
    pairs = list(zip(ids, rows, strict=True))
    sealed = [seal_operator(keyring, operator_id, private_part(row)) for operator_id, row in pairs]
    await db.copy_records_to_table(
        "operator",
        schema_name="staff",
        columns=OPERATOR_COLUMNS,
        records=(
            (
                operator_id,
                plain_login(row.login),
                row.password_hash,
                box.key_version,
                box.box,
                row.store_id,
                row.merchant_id,
                now,
            )
            for (operator_id, row), box in zip(pairs, sealed, strict=True)
        ),
    )
    await db.copy_records_to_table(
        "operator_role",
        schema_name="staff",
        columns=("operator_id", "role"),
        records=((operator_id, role) for operator_id, row in pairs for role in row.roles),
    )
    return ids


async def check_roles(db: Db, operators: Sequence[NewOperator]) -> None:
    """Raise `UnknownRole` or `RoleNeedsPlace` unless each has roles for staff and the places these reach."""
    needs = {row["name"]: row for row in await queries.find_staff_roles(db)}
    for operator in operators:
        unknown = sorted(set(operator.roles) - set(needs))
        if unknown or not operator.roles:
            raise UnknownRole(roles=unknown)
        for name in operator.roles:
            if needs[name]["needs_store"] and operator.store_id is None:
                raise RoleNeedsPlace(role=name, scope=Scope.STORE)
            if needs[name]["needs_merchant"] and operator.merchant_id is None:
                raise RoleNeedsPlace(role=name, scope=Scope.MERCHANT)


def private_part(row: NewOperator) -> OperatorSecrets:
    return OperatorSecrets(name=row.name, totp_secret=row.totp_secret)


def operator_from(row: Row) -> Operator:
    return Operator(
        id=row["id"],
        login=row["login"],
        sealed=Sealed(row["key_version"], row["box"]),
        status=Status(row["status"]),
        store_id=row["store_id"],
        merchant_id=row["merchant_id"],
        roles=tuple(row["roles"]),
        created_at=row["created_at"],
    )
