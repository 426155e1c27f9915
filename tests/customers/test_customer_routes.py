"""The customers' pages over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from factories.identity import ID_NUMBER, OneConnection, Web, customer, identity_web, operator

from quanhui import customers, staff
from quanhui.base import outbox, tokens
from quanhui.base.access import PERMISSIONS, PUBLIC, ActorKind
from quanhui.base.db import Db, transaction
from quanhui.customers import sessions
from quanhui.customers.routes import handlers

PHONE = "13800138000"


@pytest.fixture
def pool(db: Db) -> OneConnection:
    return OneConnection(db)


@pytest.fixture
async def web(pool: OneConnection, keyring, now) -> AsyncIterator[Web]:
    async with transaction(pool) as db:
        await outbox.set_routes(db, [(customers.CODE_REQUESTED, "send_sign_in_codes")])
    async with identity_web(pool, keyring, now) as opened:
        yield opened


async def sent_code(pool: OneConnection, keyring, now) -> str:
    async with transaction(pool) as db:
        batch = await outbox.take(db, "send_sign_in_codes", limit=1, now=now)
        await batch.done(db)
    (job,) = batch.jobs
    return sessions.open_code_message(keyring, job.subject, job.payload).code


async def token_of(web: Web, pool: OneConnection, keyring, phone: str = PHONE) -> str:
    await web.send("POST", "/auth/customer/code", {"phone": phone})
    code = await sent_code(pool, keyring, web.now)
    answer = await web.send("POST", "/auth/customer/sign-in", {"phone": phone, "code": code})
    return answer.json()["token"]


async def staff_token(pool: OneConnection, keyring, now, role: str) -> str:
    async with transaction(pool) as db:
        (operator_id,) = await staff.enrol(db, keyring, [operator(role.replace("_", "."), role)], now=now)
        session = await tokens.open_session(
            db,
            kind=ActorKind.STAFF,
            actor_id=operator_id,
            device_id=None,
            lifetime=timedelta(hours=1),
            now=now,
        )
    return session.token


def test_only_signing_in_is_open_to_the_public():
    access = {handler.operation_id: handler.opt["access"] for handler in handlers}
    assert {name for name, needed in access.items() if needed == PUBLIC} == {
        "request_sign_in_code",
        "sign_in_customer",
    }
    assert {needed.permission for needed in access.values() if needed != PUBLIC} <= set(PERMISSIONS)


async def test_a_person_signs_in_and_sees_themselves_masked(web, pool, keyring):
    token = await token_of(web, pool, keyring)
    me = (await web.send("GET", "/me", token=token)).json()
    assert me["phone"] == "138****8000"
    assert (me["identity_level"], me["real_name"], me["elder_mode"]) == ("none", None, False)


async def test_wrong_tries_stay_counted_though_the_answer_is_a_refusal(web, pool, keyring):
    await web.send("POST", "/auth/customer/code", {"phone": PHONE})
    code = await sent_code(pool, keyring, web.now)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for _ in range(5):
        answer = await web.send("POST", "/auth/customer/sign-in", {"phone": PHONE, "code": wrong})
        assert (answer.status_code, answer.json()["type"]) == (401, "code-refused")
    answer = await web.send("POST", "/auth/customer/sign-in", {"phone": PHONE, "code": code})
    assert answer.status_code == 401


async def test_asking_again_too_soon_says_when_to_come_back(web):
    body = {"phone": PHONE}
    first = await web.send("POST", "/auth/customer/code", body)
    again = await web.send("POST", "/auth/customer/code", body)
    assert (first.status_code, first.json()) == (202, {"sent": True, "expires_in_s": 300})
    assert (again.status_code, again.json()["facts"]) == (429, {"retry_after_s": 60})


async def test_a_malformed_request_sends_nothing(web, pool, now):
    for body in ({"phone": "12345678901"}, {"phone": "+8613800138000"}, {}, {"phone": PHONE, "x": 1}):
        assert (await web.send("POST", "/auth/customer/code", body)).status_code == 400
    async with pool.acquire() as db:
        assert await outbox.due(db, now=now) == []


async def test_signing_out_kills_one_token_and_signing_out_everywhere_all_of_them(web, pool, keyring):
    mine = []
    for _ in range(3):
        mine.append(await token_of(web, pool, keyring))
        web.now += timedelta(minutes=1)
    for path, caller, alive in (
        ("/auth/sign-out", mine[0], [401, 200, 200]),
        ("/auth/sign-out-everywhere", mine[1], [401, 401, 401]),
    ):
        assert (await web.send("POST", path, token=caller)).status_code == 200
        assert [(await web.send("GET", "/me", token=token)).status_code for token in mine] == alive


async def test_from_a_name_to_a_payee_account(web, pool, keyring):
    token = await token_of(web, pool, keyring)
    account = {"kind": "bank_card", "account": "6216261000000000018", "holder_name": "王小明"}
    early = await web.send("POST", "/me/payees", account, token=token)
    assert (early.status_code, early.json()["type"]) == (403, "identity-required")
    identity = {"real_name": "王小明", "id_number": ID_NUMBER}
    me = await web.send("POST", "/me/identity", identity, token=token)
    assert (me.status_code, me.json()["identity_level"], me.json()["real_name"]) == (201, "verified", "王**")
    added = await web.send("POST", "/me/payees", account, token=token)
    assert (added.status_code, added.json()["account"]) == (201, "****0018")
    listed = (await web.send("GET", "/me/payees", token=token)).json()
    assert listed == [added.json()]
    gone = await web.send("DELETE", f"/me/payees/{added.json()['id']}", token=token)
    assert gone.status_code == 200
    assert (await web.send("GET", "/me/payees", token=token)).json() == []


async def test_failed_proofs_of_identity_stay_counted(web, pool, keyring):
    token = await token_of(web, pool, keyring)
    wrong = {"real_name": "王小明", "id_number": ID_NUMBER[:17] + "0"}
    statuses = [(await web.send("POST", "/me/identity", wrong, token=token)).status_code for _ in range(11)]
    assert statuses == [409] * 10 + [429]


async def test_elder_mode_and_consents_are_kept(web, pool, keyring):
    token = await token_of(web, pool, keyring)
    me = await web.send("PATCH", "/me", {"elder_mode": True, "display_name": "明叔"}, token=token)
    assert (me.json()["elder_mode"], me.json()["display_name"]) == (True, "明叔")
    consent = {"purpose": "marketing", "version": "2026-11-01"}
    await web.send("POST", "/me/consents", consent, token=token)
    await web.send("POST", "/me/consents", consent | {"given": False}, token=token)
    page = (await web.send("GET", "/me/consents?limit=1", token=token)).json()
    assert page["next_cursor"] is None
    assert page["items"][0]["withdrawn_at"] is not None


async def test_a_page_of_consents_leads_to_the_next(web, pool, keyring):
    token = await token_of(web, pool, keyring)
    for version in ("1", "2", "3"):
        await web.send("POST", "/me/consents", {"purpose": "terms", "version": version}, token=token)
    first = (await web.send("GET", "/me/consents?limit=2", token=token)).json()
    rest = await web.send("GET", f"/me/consents?limit=2&cursor={first['next_cursor']}", token=token)
    assert [one["version"] for one in first["items"] + rest.json()["items"]] == ["3", "2", "1"]


async def test_staff_suspend_a_customer_and_the_customer_is_out(web, pool, keyring, now):
    token = await token_of(web, pool, keyring)
    customer_id = (await web.send("GET", "/me", token=token)).json()["id"]
    path, body = f"/customers/{customer_id}/status", {"status": "suspended", "reason": "盗用投诉"}
    for role, status in (("finance", 403), ("risk_officer", 200)):
        caller = await staff_token(pool, keyring, now, role)
        assert (await web.send("POST", path, body, token=caller)).status_code == status
    assert (await web.send("POST", path, body, token=token)).status_code == 401
    unknown = await web.send("POST", "/customers/cus_none/status", body, token=caller)
    assert unknown.status_code == 404


async def test_staff_register_an_enterprise_and_its_member_acts_for_it(web, pool, keyring, now):
    token = await token_of(web, pool, keyring)
    customer_id = (await web.send("GET", "/me", token=token)).json()["id"]
    caller = await staff_token(pool, keyring, now, "operations")
    body = {"credit_code": "91350100M000100Y43", "name": "示例公司"}
    company = (await web.send("POST", "/enterprises", body, token=caller)).json()
    member = f"/enterprises/{company['id']}/members/{customer_id}"
    session = f"/me/enterprises/{company['id']}/session"
    assert (await web.send("POST", session, token=token)).status_code == 404
    await web.send("PUT", member, {"role": "owner"}, token=caller)
    assert (await web.send("GET", "/me/enterprises", token=token)).json() == [company]
    acting = (await web.send("POST", session, token=token)).json()["token"]
    assert (await web.send("GET", "/me", token=acting)).json()["enterprise_id"] == company["id"]
    await web.send("DELETE", member, token=caller)
    assert (await web.send("GET", "/me", token=acting)).status_code == 401
    assert (await web.send("GET", "/me", token=token)).status_code == 200


async def test_the_answer_that_holds_a_token_is_not_kept(web, pool, keyring, now):
    token = await token_of(web, pool, keyring)
    async with transaction(pool) as db:
        customer_id = await customer(db, keyring, now=now)
        company = await customers.register_enterprise(
            db, credit_code="91350100M000100Y43", name="示例公司", now=now
        )
        await customers.put_member(
            db, enterprise_id=company.id, customer_id=customer_id, role=customers.MemberRole.OWNER
        )
    acting = await web.send("POST", f"/me/enterprises/{company.id}/session", token=token, key="once")
    async with pool.acquire() as db:
        assert await db.fetchval("SELECT body FROM base.answer WHERE key = 'once'") is None
    assert acting.json()["token"].startswith("cs_")
