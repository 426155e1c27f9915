"""Who customers are, where they are paid, what they agreed to, and for whom they act."""

import asyncio
import re
from datetime import timedelta

import pytest
from factories.identity import ANOTHER_ID_NUMBER, ID_NUMBER, customer, dump

from quanhui import customers
from quanhui.base import outbox, tokens
from quanhui.base.access import ActorKind, Scope
from quanhui.base.db import Db, Pool, in_transaction
from quanhui.base.errors import NotFound, TooManyAttempts
from quanhui.base.keyring import CannotOpen
from quanhui.customers import ConsentPurpose, Enrolment, IdentityLevel, MemberRole, PayeeKind, Person, Status
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

NAME = "王小明"
CARD = "6216261000000000018"
CREDIT_CODE = "91350100M000100Y43"


async def verified(db: Db, keyring, now, *, phone="13800138000", number=ID_NUMBER, name=NAME) -> str:
    customer_id = await customer(db, keyring, now=now, phone=phone)
    await customers.record_identity(
        db, keyring, customer_id=customer_id, real_name=name, id_number=number, now=now
    )
    return customer_id


def payee(customer_id, now, *, account=CARD, kind=PayeeKind.BANK_CARD, holder=NAME):
    return {"customer_id": customer_id, "kind": kind, "account": account, "holder_name": holder, "now": now}


async def test_admitting_the_same_phone_again_changes_nothing(db: Db, keyring, now):
    phones = ["13800138000", "13900139000"]
    first = await customers.admit_customers(db, keyring, phones, now=now)
    again = await customers.admit_customers(db, keyring, phones[::-1], now=now + timedelta(days=1))
    assert again == first
    assert customers.open_person(keyring, first["13900139000"]) == Person(phone="13900139000")


async def test_two_who_admit_one_phone_together_get_one_account(pool: Pool, keyring, now):
    ids = await asyncio.gather(
        *(in_transaction(pool, lambda db: customer(db, keyring, now=now)) for _ in range(5))
    )
    assert len(set(ids)) == 1


async def test_a_name_makes_named_and_a_number_makes_verified(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    levels = []
    for number in (None, ID_NUMBER.lower()):
        after = await customers.record_identity(
            db, keyring, customer_id=customer_id, real_name=NAME, id_number=number, now=now
        )
        levels.append((after.identity_level, after.verified_at))
    assert levels == [(IdentityLevel.NAMED, None), (IdentityLevel.VERIFIED, now)]
    assert (await customers.customers(db, [customer_id]))[customer_id] == after


async def test_only_the_verified_have_a_verified_name(db: Db, keyring, now):
    sure = await verified(db, keyring, now)
    named = await verified(db, keyring, now, phone="13900139000", number=None)
    assert await customers.verified_names(db, keyring, [sure, named, "cus_none"]) == {sure: NAME}


async def test_a_wrong_check_digit_proves_nothing(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    with pytest.raises(IdNumberInvalid):
        await customers.record_identity(
            db, keyring, customer_id=customer_id, real_name=NAME, id_number=ID_NUMBER[:17] + "1", now=now
        )


async def test_one_identity_number_verifies_one_account(db: Db, keyring, now):
    await verified(db, keyring, now)
    async with db.transaction():
        with pytest.raises(IdentityInUse):
            async with db.transaction():
                await verified(db, keyring, now, phone="13900139000")


async def test_a_verified_account_does_not_become_somebody_else(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    for name, number in (("李四", ID_NUMBER), (NAME, ANOTHER_ID_NUMBER), ("李四", None)):
        with pytest.raises(IdentityAlreadyVerified):
            await customers.record_identity(
                db, keyring, customer_id=customer_id, real_name=name, id_number=number, now=now
            )
    same = await customers.record_identity(
        db, keyring, customer_id=customer_id, real_name=NAME, id_number=ID_NUMBER, now=now + timedelta(days=1)
    )
    assert same.verified_at == now


async def test_attempts_to_prove_an_identity_are_limited(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    for _ in range(10):
        await customers.count_identity_attempt(db, keyring, customer_id, now=now)
    with pytest.raises(TooManyAttempts):
        await customers.count_identity_attempt(db, keyring, customer_id, now=now)


async def test_names_and_numbers_are_never_stored_in_the_clear(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    await customers.change_profile(
        db, keyring, customer_id=customer_id, display_name="小明同学", elder_mode=None
    )
    await customers.add_payee(db, keyring, **payee(customer_id, now))
    stored = await dump(db)
    assert customer_id in stored
    for secret in (NAME, "小明同学", ID_NUMBER, "13800138000", CARD):
        assert secret not in stored
        assert secret.encode().hex() not in stored


async def test_a_sealed_person_does_not_open_in_another_row(db: Db, keyring, now):
    one = await customer(db, keyring, now=now)
    other = await customer(db, keyring, now=now, phone="13900139000")
    await db.execute(
        "UPDATE customers.customer SET box = (SELECT box FROM customers.customer WHERE id = $1) "
        "WHERE id = $2",
        one,
        other,
    )
    with pytest.raises(CannotOpen):
        customers.open_person(keyring, (await customers.customers(db, [other]))[other])


async def test_a_profile_changes_only_where_asked(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    await customers.change_profile(db, keyring, customer_id=customer_id, display_name=None, elder_mode=True)
    after = await customers.change_profile(
        db, keyring, customer_id=customer_id, display_name="明叔", elder_mode=None
    )
    assert after.elder_mode
    assert customers.open_person(keyring, after).real_name == NAME
    assert after.identity_level is IdentityLevel.VERIFIED


@pytest.mark.parametrize(
    ("one", "other"),
    [("王小明", " 王　小明 "), ("阿依古丽·买买提", "阿依古丽•买买提"), ("LI MING", "Ｌi Ming")],
)
def test_spellings_of_one_name_are_the_same(one, other):
    assert customers.same_name(one, other)


@pytest.mark.parametrize(("one", "other"), [("王小明", "王小鸣"), ("王小明", "小明"), ("王小明", "")])
def test_different_names_are_different(one, other):
    assert not customers.same_name(one, other)


async def test_a_payee_account_must_be_in_the_verified_name(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    with pytest.raises(PayeeNameMismatch):
        await customers.add_payee(db, keyring, **payee(customer_id, now, holder="李四"))


async def test_without_a_verified_name_there_is_no_payee_account(db: Db, keyring, now):
    named = await verified(db, keyring, now, number=None)
    with pytest.raises(IdentityRequired):
        await customers.add_payee(db, keyring, **payee(named, now))


async def test_a_bank_card_must_pass_luhn(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    with pytest.raises(AccountInvalid):
        await customers.add_payee(db, keyring, **payee(customer_id, now, account=CARD[:-1] + "7"))


async def test_a_payee_account_opens_for_the_one_who_pays(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    added = await customers.add_payee(db, keyring, **payee(customer_id, now))
    found = (await customers.payees(db, [added.id, "pya_none"]))[added.id]
    assert found == added
    assert (found.tail, found.customer_id) == ("0018", customer_id)
    opened = customers.open_payee_account(keyring, found)
    assert (opened.account, opened.holder_name) == (CARD, NAME)
    assert CARD not in repr((found, opened))


async def test_the_same_account_added_again_is_the_same_payee(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    first = await customers.add_payee(db, keyring, **payee(customer_id, now))
    again = await customers.add_payee(db, keyring, **payee(customer_id, now + timedelta(days=1)))
    assert again == first


async def test_one_account_of_two_customers_has_one_fingerprint(db: Db, keyring, now):
    one = await verified(db, keyring, now)
    other = await verified(db, keyring, now, phone="13900139000", number=ANOTHER_ID_NUMBER)
    added = [await customers.add_payee(db, keyring, **payee(who, now)) for who in (one, other)]
    assert added[0].account_fingerprint == added[1].account_fingerprint
    assert added[0].id != added[1].id


async def test_a_closed_account_takes_no_new_payouts_but_can_still_be_read(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    other = await verified(db, keyring, now, phone="13900139000", number=ANOTHER_ID_NUMBER)
    added = await customers.add_payee(db, keyring, **payee(customer_id, now))
    with pytest.raises(NotFound):
        await customers.close_payee(db, customer_id=other, payee_id=added.id, now=now)
    await customers.close_payee(db, customer_id=customer_id, payee_id=added.id, now=now)
    assert await customers.list_payees(db, customer_id) == []
    assert (await customers.payees(db, [added.id]))[added.id].closed_at == now
    with pytest.raises(NotFound):
        await customers.close_payee(db, customer_id=customer_id, payee_id=added.id, now=now)


async def test_payee_accounts_are_limited(db: Db, keyring, now):
    customer_id = await verified(db, keyring, now)
    for n in range(customers.MOST_PAYEES):
        await customers.add_payee(
            db, keyring, **payee(customer_id, now, kind=PayeeKind.SANDBOX, account=f"box-{n}")
        )
    with pytest.raises(TooManyPayees):
        await customers.add_payee(db, keyring, **payee(customer_id, now))


async def test_a_consent_to_a_new_wording_ends_the_old_one(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    for day, version in enumerate(("1", "2")):
        await customers.give_consent(
            db,
            customer_id=customer_id,
            purpose=ConsentPurpose.MARKETING,
            version=version,
            now=now + timedelta(days=day),
        )
    records = await customers.list_consents(db, customer_id, limit=9)
    assert [(r.version, r.withdrawn_at) for r in records] == [("2", None), ("1", now + timedelta(days=1))]


async def test_a_withdrawn_consent_stays_on_record_but_no_longer_counts(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    purpose = ConsentPurpose.AUTOMATED_DECISION
    await customers.give_consent(db, customer_id=customer_id, purpose=purpose, version="1", now=now)
    assert await customers.consenting(db, [customer_id], purpose) == {customer_id}
    for _ in range(2):
        await customers.withdraw_consent(db, customer_id=customer_id, purpose=purpose, now=now)
    assert await customers.consenting(db, [customer_id], purpose) == set()
    (record,) = await customers.list_consents(db, customer_id, limit=9)
    assert record.withdrawn_at == now


async def test_a_member_acts_for_the_enterprise_in_a_session_of_its_own(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    company = await customers.register_enterprise(db, credit_code=CREDIT_CODE, name="示例公司", now=now)
    who = {"enterprise_id": company.id, "customer_id": customer_id}
    assert await customers.act_for(db, **who, device_id=None, now=now) is None
    await customers.put_member(db, **who, role=MemberRole.AGENT)
    assert await customers.enterprises_of(db, customer_id) == [company]
    session = await customers.act_for(db, **who, device_id=None, now=now)
    actor = await customers.authenticate(db, session.token, now)
    assert (actor.id, actor.enterprise_id) == (customer_id, company.id)
    assert actor.reach("buyback.sell") is Scope.ENTERPRISE
    await customers.remove_member(db, **who)
    assert await customers.authenticate(db, session.token, now) is None


async def test_a_suspended_enterprise_has_nobody_acting_for_it(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    company = await customers.register_enterprise(db, credit_code=CREDIT_CODE, name="示例公司", now=now)
    who = {"enterprise_id": company.id, "customer_id": customer_id}
    await customers.put_member(db, **who, role=MemberRole.OWNER)
    session = await customers.act_for(db, **who, device_id=None, now=now)
    await db.execute("UPDATE customers.enterprise SET status = 'suspended'")
    assert await customers.authenticate(db, session.token, now) is None
    assert await customers.act_for(db, **who, device_id=None, now=now) is None
    assert await customers.enterprises_of(db, customer_id) == []


async def test_a_person_acts_for_themselves_unless_they_say_otherwise(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    company = await customers.register_enterprise(db, credit_code=CREDIT_CODE, name="示例公司", now=now)
    await customers.put_member(db, enterprise_id=company.id, customer_id=customer_id, role=MemberRole.OWNER)
    session = await tokens.open_session(
        db,
        kind=ActorKind.CUSTOMER,
        actor_id=customer_id,
        device_id=None,
        lifetime=timedelta(days=1),
        now=now,
    )
    actor = await customers.authenticate(db, session.token, now)
    assert actor.enterprise_id is None
    assert actor.reach("buyback.sell") is Scope.OWN


async def test_an_enterprise_is_registered_once_under_a_code_that_can_exist(db: Db, now):
    with pytest.raises(CreditCodeInvalid):
        await customers.register_enterprise(db, credit_code="91350100M000100Y44", name="示例公司", now=now)
    company = await customers.register_enterprise(db, credit_code=CREDIT_CODE, name="示例公司", now=now)
    with pytest.raises(EnterpriseExists):
        await customers.register_enterprise(db, credit_code=CREDIT_CODE, name="别的公司", now=now)
    assert await customers.enterprises(db, [company.id, "ent_none"]) == {company.id: company}


async def test_nobody_unknown_becomes_a_member(db: Db, keyring, now):
    company = await customers.register_enterprise(db, credit_code=CREDIT_CODE, name="示例公司", now=now)
    who = {"enterprise_id": company.id, "customer_id": "cus_none"}
    with pytest.raises(NotFound):
        await customers.put_member(db, **who, role=MemberRole.AGENT)
    with pytest.raises(NotFound):
        await customers.remove_member(db, **who)


async def test_a_suspension_is_told_with_its_reason_and_only_when_it_changes_something(db: Db, keyring, now):
    await outbox.set_routes(db, [(customers.STATUS_CHANGED, "listener")])
    customer_id = await customer(db, keyring, now=now)
    for expected in ([customer_id], []):
        changed = await customers.set_status(
            db, [customer_id, "cus_none"], status=Status.SUSPENDED, actor_id="stf_1", reason="fraud", now=now
        )
        assert changed == expected
    batch = await outbox.take(db, "listener", limit=9, now=now)
    assert [(job.subject, job.payload) for job in batch.jobs] == [
        (customer_id, {"status": "suspended", "actor_id": "stf_1", "reason": "fraud"})
    ]


async def test_many_customers_are_loaded_at_once_with_their_payees(db: Db, keyring, now):
    rows = [
        Enrolment(
            person=Person(phone=f"138{n:08}", real_name=NAME, id_number=f"number-{n}"),
            created_at=now,
            elder_mode=n == 1,
            payees=((PayeeKind.SANDBOX, f"box-{n}"), (PayeeKind.WECHAT, f"wx-{n}")),
        )
        for n in range(200)
    ]
    enrolled = await customers.enrol(
        db, keyring, [*rows, Enrolment(person=Person(phone="13900139000"), created_at=now)]
    )
    second, last = enrolled[1], enrolled[-1]
    found = await customers.customers(db, [second.customer_id, last.customer_id])
    assert customers.open_person(keyring, found[second.customer_id]) == rows[1].person
    assert found[second.customer_id].elder_mode
    assert found[second.customer_id].identity_level is IdentityLevel.VERIFIED
    assert found[last.customer_id].identity_level is IdentityLevel.NONE
    accounts = await customers.payees(db, second.payee_ids)
    opened = [customers.open_payee_account(keyring, accounts[one]) for one in second.payee_ids]
    assert [one.account for one in opened] == ["box-1", "wx-1"]
    admitted = await customers.admit_customers(db, keyring, ["13800000001"], now=now)
    assert admitted["13800000001"].id == second.customer_id


@pytest.mark.parametrize(
    ("table", "column", "enum"),
    [
        ("customers.customer", "identity_level", IdentityLevel),
        ("customers.customer", "status", Status),
        ("customers.enterprise", "status", Status),
        ("customers.payee", "kind", PayeeKind),
        ("customers.consent", "purpose", ConsentPurpose),
        ("customers.enterprise_member", "role", MemberRole),
    ],
)
async def test_words_in_the_code_and_in_the_database_are_the_same(db: Db, table, column, enum):
    definition = await db.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = $1::text::regclass AND conname = split_part($1, '.', 2) || '_' || $2 || '_check'",
        table,
        column,
    )
    assert set(re.findall(r"'([a-z_]+)'", definition)) == {str(word) for word in enum}
