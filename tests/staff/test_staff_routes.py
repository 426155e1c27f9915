"""The pages of staff over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from factories.identity import PASSWORD, OneConnection, Web, identity_web, operator, totp

from quanhui import staff
from quanhui.base.access import PERMISSIONS, PUBLIC
from quanhui.base.db import Db, transaction
from quanhui.staff.routes import handlers

STORE = "sto_01h455vb4pex5vsknk084sn02q"


@pytest.fixture
def pool(db: Db) -> OneConnection:
    return OneConnection(db)


@pytest.fixture
async def web(pool: OneConnection, keyring, now) -> AsyncIterator[Web]:
    async with transaction(pool) as db:
        await staff.enrol(
            db, keyring, [operator("boss", "administrator"), operator("fin", "finance")], now=now
        )
    async with identity_web(pool, keyring, now) as opened:
        yield opened


async def sign_in(web: Web, login: str = "boss", **wrong: str):
    body = {"login": login, "password": PASSWORD, "one_time_password": totp(web.now)} | wrong
    return await web.send("POST", "/auth/staff/sign-in", body)


async def token_of(web: Web, login: str = "boss") -> str:
    return (await sign_in(web, login)).json()["token"]


NEW = {
    "login": "li.si",
    "name": "李四",
    "password": "a first password",
    "roles": ["desk_clerk"],
    "store_id": STORE,
}


def test_only_signing_in_is_open_to_the_public():
    access = {handler.operation_id: handler.opt["access"] for handler in handlers}
    assert {name for name, needed in access.items() if needed == PUBLIC} == {"sign_in_staff"}
    assert {needed.permission for needed in access.values() if needed != PUBLIC} <= set(PERMISSIONS)


async def test_an_operator_signs_in_and_sees_what_they_may_do(web):
    me = (await web.send("GET", "/staff/me", token=await token_of(web))).json()
    assert (me["login"], me["name"], me["roles"]) == ("boss", "王守一", ["administrator"])
    assert me["grants"]["staff.manage"] == "all"


async def test_a_refused_sign_in_stays_counted(web):
    for _ in range(5):
        answer = await sign_in(web, password="wrong")
        assert (answer.status_code, answer.json()["type"]) == (401, "sign-in-refused")
    answer = await sign_in(web)
    assert (answer.status_code, answer.json()["facts"]) == (429, {"retry_after_s": 60})


async def test_refusals_of_known_and_unknown_logins_are_the_same(web):
    wrong = [
        await sign_in(web, password="wrong"),
        await sign_in(web, one_time_password="000000"),
        await sign_in(web, login="nobody"),
    ]
    assert len({(answer.status_code, answer.content) for answer in wrong}) == 1


async def test_signing_out_ends_the_session(web):
    token = await token_of(web)
    assert (await web.send("POST", "/auth/sign-out", token=token)).json() == {"ended": "this"}
    assert (await web.send("GET", "/staff/me", token=token)).status_code == 401


async def test_a_new_operator_signs_in_with_what_the_answer_holds(web, pool):
    boss = await token_of(web)
    added = await web.send("POST", "/staff/operators", NEW, token=boss, key="once")
    assert added.status_code == 201
    secret = parse_qs(urlsplit(added.json()["totp_uri"]).query)["secret"][0]
    web.now += timedelta(minutes=1)
    code = pyotp.TOTP(secret).at(web.now)
    answer = await sign_in(web, "li.si", password=NEW["password"], one_time_password=code)
    me = (await web.send("GET", "/staff/me", token=answer.json()["token"])).json()
    assert (me["store_id"], me["grants"]["redemption.redeem"]) == (STORE, "store")
    async with pool.acquire() as db:
        assert await db.fetchval("SELECT body FROM base.answer WHERE key = 'once'") is None


async def test_only_administrators_manage_staff(web):
    caller = await token_of(web, "fin")
    for method, path, body in (
        ("POST", "/staff/operators", NEW),
        ("GET", "/staff/operators", None),
        ("GET", "/staff/roles", None),
        ("POST", "/staff/partners", {"name": "福利平台", "enterprise_id": "ent_" + STORE[4:]}),
        ("GET", "/staff/audit", None),
    ):
        assert (await web.send(method, path, body, token=caller)).status_code == 403


async def test_a_malformed_operator_is_not_added(web):
    token = await token_of(web)
    for wrong in (
        {"password": "short"},
        {"roles": []},
        {"login": "李四"},
        {"store_id": "../x"},
        {"is_admin": True},
    ):
        assert (await web.send("POST", "/staff/operators", NEW | wrong, token=token)).status_code == 400
    listed = (await web.send("GET", "/staff/operators", token=token)).json()["items"]
    assert {one["login"] for one in listed} == {"boss", "fin"}


async def test_operators_are_listed_newest_first_page_by_page(web):
    token = await token_of(web)
    await web.send("POST", "/staff/operators", NEW, token=token)
    first = (await web.send("GET", "/staff/operators?limit=2", token=token)).json()
    rest = await web.send("GET", f"/staff/operators?limit=2&cursor={first['next_cursor']}", token=token)
    listed = first["items"] + rest.json()["items"]
    assert [one["login"] for one in listed] == ["li.si", "fin", "boss"]
    assert rest.json()["next_cursor"] is None
    assert not any("password" in name or "totp" in name for name in listed[0])


async def test_roles_are_listed_with_what_they_grant(web):
    listed = (await web.send("GET", "/staff/roles", token=await token_of(web))).json()
    grants = {role["name"]: role["grants"] for role in listed}
    assert grants["customer"]["buyback.sell"] == "own"
    assert set(grants["auditor"]) <= set(PERMISSIONS)


async def test_suspension_and_new_credentials_end_sessions_and_are_audited(web):
    boss, fin = await token_of(web), await token_of(web, "fin")
    operator_id = (await web.send("GET", "/staff/me", token=fin)).json()["id"]
    body = {"password": "another long password", "reason": "手机丢失"}
    reset = await web.send("POST", f"/staff/operators/{operator_id}/credentials", body, token=boss)
    assert reset.json()["totp_uri"].startswith("otpauth://totp/")
    assert (await web.send("GET", "/staff/me", token=fin)).status_code == 401
    body = {"status": "suspended", "reason": "离职"}
    await web.send("POST", f"/staff/operators/{operator_id}/status", body, token=boss)
    trail = (await web.send("GET", f"/staff/audit?subject={operator_id}", token=boss)).json()["items"]
    assert [(one["action"], one["reason"]) for one in trail] == [
        ("operator.suspended", "离职"),
        ("operator.credentials_reset", "手机丢失"),
    ]


async def test_a_partner_gets_keys_that_can_be_revoked(web, pool):
    token = await token_of(web)
    body = {"name": "福利平台", "enterprise_id": "ent_" + STORE[4:]}
    first = await web.send("POST", "/staff/partners", body, token=token, key="once")
    partner_id = first.json()["partner_id"]
    second = (await web.send("POST", f"/staff/partners/{partner_id}/keys", token=token)).json()
    assert second["secret"] != first.json()["secret"]
    path = f"/staff/partners/{partner_id}/keys/{second['key_id']}/revoke"
    statuses = [
        (await web.send("POST", path, {"reason": "not needed"}, token=token)).status_code for _ in range(2)
    ]
    assert statuses == [200, 404]
    (listed,) = (await web.send("GET", "/staff/partners", token=token)).json()["items"]
    assert (listed["id"], listed["name"], listed["status"]) == (partner_id, "福利平台", "active")
    body = {"status": "suspended", "reason": "contract ended"}
    changed = await web.send("POST", f"/staff/partners/{partner_id}/status", body, token=token)
    assert changed.json() == {"id": partner_id, "status": "suspended"}
    async with pool.acquire() as db:
        assert await db.fetchval("SELECT body FROM base.answer WHERE key = 'once'") is None
