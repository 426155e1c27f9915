"""What customers do and what is done with them: accounts, identity, payees, consents, enterprises."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from quanhui.base import attempts
from quanhui.base.check_digits import is_credit_code, is_id_number
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Fact, emit
from quanhui.base.tokens import end_sessions
from quanhui.customers.errors import (
    AccountInvalid,
    CreditCodeInvalid,
    EnterpriseExists,
    IdentityAlreadyVerified,
    IdentityInUse,
    IdentityRequired,
    IdNumberInvalid,
    PayeeNameMismatch,
    TooManyPayees,
)
from quanhui.customers.rules import (
    IDENTITIES_PER_CUSTOMER,
    TAIL_LENGTH,
    Consent,
    ConsentPurpose,
    Customer,
    Enterprise,
    IdentityLevel,
    MemberRole,
    Payee,
    PayeeAccount,
    PayeeKind,
    Person,
    Status,
    account_fingerprint,
    id_number_fingerprint,
    is_account,
    level_of,
    open_person,
    phone_fingerprint,
    same_name,
    seal_payee_account,
    seal_person,
)
from quanhui.customers.store import consent_from, customer_from, enterprise_from, payee_from, queries

STATUS_CHANGED = "customers.status_changed"
MOST_PAYEES = 10


async def admit_customers(
    db: Db, keyring: Keyring, phones: Sequence[str], *, now: datetime
) -> dict[str, Customer]:
    """The customers of these phone numbers, by number; accounts are opened for the new ones."""
    fingerprints = {phone_fingerprint(keyring, phone): phone for phone in phones}
    ids = [new_id("cus") for _ in fingerprints]
    sealed = [
        seal_person(keyring, customer_id, Person(phone=phone))
        for customer_id, phone in zip(ids, fingerprints.values(), strict=True)
    ]
    await queries.add_customers(
        db,
        ids=ids,
        phone_fingerprints=list(fingerprints),
        key_versions=[one.key_version for one in sealed],
        boxes=[one.box for one in sealed],
        now=now,
    )
    rows = await queries.find_by_phones(db, phone_fingerprints=list(fingerprints))
    return {fingerprints[row["phone_fingerprint"]]: customer_from(row) for row in rows}


async def customers(db: Db, customer_ids: Sequence[str]) -> dict[str, Customer]:
    """Customers by id; unknown ids are left out."""
    rows = await queries.find_customers(db, ids=customer_ids)
    return {row["id"]: customer_from(row) for row in rows}


async def verified_names(db: Db, keyring: Keyring, customer_ids: Sequence[str]) -> dict[str, str]:
    """The real names of those customers who are verified; the others are left out."""
    found = await customers(db, customer_ids)
    verified = [one for one in found.values() if one.identity_level is IdentityLevel.VERIFIED]
    return {one.id: open_person(keyring, one).real_name or "" for one in verified}


async def count_identity_attempt(db: Db, keyring: Keyring, customer_id: str, *, now: datetime) -> None:
    """Count an attempt to prove an identity, so that numbers cannot be probed. Raises `TooManyAttempts`.

    Commit before judging the attempt.
    """
    key = keyring.fingerprint("customer", customer_id)
    await attempts.count(db, [(IDENTITIES_PER_CUSTOMER, key)], now=now)


async def record_identity(
    db: Db, keyring: Keyring, *, customer_id: str, real_name: str, id_number: str | None, now: datetime
) -> Customer:
    """实名: record a name (level `named`) or a name with an identity number (level `verified`).

    In this edition `verified` means that the number passes its check digit (GB 11643) and belongs to one
    account only; nobody is asked whether name and number belong together. A platform in operation
    puts the answer of an authorised identity service in front of this verb.

    Raises `NotFound`, `IdNumberInvalid`, `IdentityInUse`, and `IdentityAlreadyVerified` when the account
    is verified for somebody else; the same identity again changes nothing.
    """
    number = id_number.upper() if id_number is not None else None
    if number is not None and not is_id_number(number):
        raise IdNumberInvalid
    before = await _lock(db, customer_id)
    person = open_person(keyring, before)
    if before.identity_level is IdentityLevel.VERIFIED:
        assert person.real_name is not None
        if number in (None, person.id_number) and same_name(real_name, person.real_name):
            return before
        raise IdentityAlreadyVerified
    person = msgspec.structs.replace(person, real_name=real_name, id_number=number)
    level = level_of(person)
    after = msgspec.structs.replace(
        before,
        sealed=seal_person(keyring, customer_id, person),
        identity_level=level,
        verified_at=now if level is IdentityLevel.VERIFIED else None,
    )
    try:
        await _store(db, keyring, after, number)
    except asyncpg.UniqueViolationError as taken:
        raise IdentityInUse from taken
    return after


async def change_profile(
    db: Db, keyring: Keyring, *, customer_id: str, display_name: str | None, elder_mode: bool | None
) -> Customer:
    """Change how a customer is addressed, or elder mode 长辈模式; None leaves a value as it is."""
    before = await _lock(db, customer_id)
    person = open_person(keyring, before)
    if display_name is not None:
        person = msgspec.structs.replace(person, display_name=display_name)
    after = msgspec.structs.replace(
        before,
        sealed=seal_person(keyring, customer_id, person),
        elder_mode=before.elder_mode if elder_mode is None else elder_mode,
    )
    await _store(db, keyring, after, person.id_number)
    return after


async def set_status(
    db: Db, customer_ids: Sequence[str], *, status: Status, actor_id: str, reason: str, now: datetime
) -> list[str]:
    """Suspend or reinstate accounts; returns those that changed. Suspension ends their sessions.

    Each change is told as `customers.status_changed` with who did it and why.
    """
    rows = await queries.set_status(db, ids=customer_ids, status=status)
    changed = sorted(row["id"] for row in rows)
    if status is Status.SUSPENDED:
        await end_sessions(db, changed, now=now)
    payload = {"status": status, "actor_id": actor_id, "reason": reason}
    await emit(db, [Fact(STATUS_CHANGED, customer_id, payload) for customer_id in changed], now=now)
    return changed


async def add_payee(
    db: Db,
    keyring: Keyring,
    *,
    customer_id: str,
    kind: PayeeKind,
    account: str,
    holder_name: str,
    now: datetime,
) -> Payee:
    """Register where a verified customer is paid; an account they already have is returned as it is.

    Raises `IdentityRequired`, `PayeeNameMismatch` when the holder is not the customer's verified name,
    `AccountInvalid` for a card number that fails Luhn, `TooManyPayees`.
    """
    customer = await _lock(db, customer_id)
    verified_name = open_person(keyring, customer).real_name
    if customer.identity_level is not IdentityLevel.VERIFIED or verified_name is None:
        raise IdentityRequired
    if not same_name(verified_name, holder_name):
        raise PayeeNameMismatch
    if not is_account(kind, account):
        raise AccountInvalid
    fingerprint = account_fingerprint(keyring, kind, account)
    known = await list_payees(db, customer_id)
    for payee in known:
        if payee.account_fingerprint == fingerprint:
            return payee
    if len(known) >= MOST_PAYEES:
        raise TooManyPayees(limit=MOST_PAYEES)
    payee_id = new_id("pya")
    sealed = seal_payee_account(keyring, payee_id, PayeeAccount(account=account, holder_name=holder_name))
    payee = Payee(
        id=payee_id,
        customer_id=customer_id,
        kind=kind,
        tail=account[-TAIL_LENGTH:],
        account_fingerprint=fingerprint,
        sealed=sealed,
        created_at=now,
        closed_at=None,
    )
    await _insert_payee(db, payee)
    return payee


async def close_payee(db: Db, *, customer_id: str, payee_id: str, now: datetime) -> None:
    """Stop paying on an account; payouts already under way keep it. Raises `NotFound`."""
    if await queries.close_payee(db, id=payee_id, customer_id=customer_id, now=now) is None:
        raise NotFound


async def payees(db: Db, payee_ids: Sequence[str]) -> dict[str, Payee]:
    """Payee accounts by id, closed ones too; unknown ids are left out."""
    rows = await queries.find_payees(db, ids=payee_ids)
    return {row["id"]: payee_from(row) for row in rows}


async def list_payees(db: Db, customer_id: str) -> list[Payee]:
    """The open payee accounts of a customer, newest first; at most `MOST_PAYEES`."""
    return [payee_from(row) for row in await queries.list_payees(db, customer_id=customer_id)]


async def give_consent(
    db: Db, *, customer_id: str, purpose: ConsentPurpose, version: str, now: datetime
) -> Consent:
    """Record a consent; an earlier one for the same purpose ends with it. Raises `NotFound`."""
    await _lock(db, customer_id)
    await queries.withdraw_consents(db, customer_id=customer_id, purpose=purpose, now=now)
    consent = Consent(id=new_id("cst"), purpose=purpose, version=version, given_at=now, withdrawn_at=None)
    await queries.add_consent(
        db, id=consent.id, customer_id=customer_id, purpose=purpose, version=version, now=now
    )
    return consent


async def withdraw_consent(db: Db, *, customer_id: str, purpose: ConsentPurpose, now: datetime) -> None:
    """End a consent; without a live one nothing changes (PIPL art. 15: as easy as giving it)."""
    await queries.withdraw_consents(db, customer_id=customer_id, purpose=purpose, now=now)


async def list_consents(db: Db, customer_id: str, *, before: str | None = None, limit: int) -> list[Consent]:
    """Consents of a customer, newest first."""
    rows = await queries.list_consents(db, customer_id=customer_id, before=before, limit=limit)
    return [consent_from(row) for row in rows]


async def consenting(db: Db, customer_ids: Sequence[str], purpose: ConsentPurpose) -> set[str]:
    """Those of these customers whose consent for a purpose is live."""
    rows = await queries.find_consenting(db, customer_ids=customer_ids, purpose=purpose)
    return {row["customer_id"] for row in rows}


async def register_enterprise(db: Db, *, credit_code: str, name: str, now: datetime) -> Enterprise:
    """Register a company. Raises `CreditCodeInvalid` (GB 32100) and `EnterpriseExists`."""
    if not is_credit_code(credit_code):
        raise CreditCodeInvalid
    enterprise = Enterprise(
        id=new_id("ent"), credit_code=credit_code, name=name, status=Status.ACTIVE, created_at=now
    )
    added = await queries.add_enterprise(db, id=enterprise.id, credit_code=credit_code, name=name, now=now)
    if added is None:
        raise EnterpriseExists
    return enterprise


async def enterprises(db: Db, enterprise_ids: Sequence[str]) -> dict[str, Enterprise]:
    """Companies by id; unknown ids are left out."""
    rows = await queries.find_enterprises(db, ids=enterprise_ids)
    return {row["id"]: enterprise_from(row) for row in rows}


async def enterprises_of(db: Db, customer_id: str) -> list[Enterprise]:
    """Companies a customer may act for."""
    return [enterprise_from(row) for row in await queries.list_enterprises_of(db, customer_id=customer_id)]


async def put_member(db: Db, *, enterprise_id: str, customer_id: str, role: MemberRole) -> None:
    """Let a customer act for a company, or change what they are to it. Raises `NotFound`."""
    if await queries.put_member(db, enterprise_id=enterprise_id, customer_id=customer_id, role=role) is None:
        raise NotFound


async def remove_member(db: Db, *, enterprise_id: str, customer_id: str) -> None:
    """Stop a customer acting for a company; their sessions for it are dead at once. Raises `NotFound`."""
    if await queries.remove_member(db, enterprise_id=enterprise_id, customer_id=customer_id) is None:
        raise NotFound


async def _lock(db: Db, customer_id: str) -> Customer:
    row = await queries.lock_customer(db, id=customer_id)
    if row is None:
        raise NotFound
    return customer_from(row)


async def _store(db: Db, keyring: Keyring, customer: Customer, id_number: str | None) -> None:
    await queries.store_person(
        db,
        id=customer.id,
        key_version=customer.sealed.key_version,
        box=customer.sealed.box,
        identity_level=customer.identity_level,
        verified_at=customer.verified_at,
        id_number_fingerprint=id_number_fingerprint(keyring, id_number) if id_number else None,
        elder_mode=customer.elder_mode,
    )


async def _insert_payee(db: Db, payee: Payee) -> None:
    await queries.add_payee(
        db,
        id=payee.id,
        customer_id=payee.customer_id,
        kind=payee.kind,
        account_fingerprint=payee.account_fingerprint,
        tail=payee.tail,
        key_version=payee.sealed.key_version,
        box=payee.sealed.box,
        now=payee.created_at,
    )
