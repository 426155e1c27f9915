"""Who may call what: every route, with every role, as the database grants them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import pytest
from factories.api import Api, open_api, problem_of, settings_for, signed_headers

from quanhui.base import clock
from quanhui.base.access import PERMISSIONS, PUBLIC, Access
from quanhui.base.tokens import end_session, hash_token
from quanhui.entry.http import create_app
from quanhui.places import find_merchants, find_stores
from quanhui.staff import PartnerKey

OPEN = {
    "GET /",
    "GET /docs",
    "GET /docs/openapi.json",
    "GET /docs/start.js",
    "GET /docs/{path}",
    "GET /docs-assets/{file_path}",
    "HEAD /docs-assets/{file_path}",
    "GET /health",
    "GET /problems/{code}",
    "GET /v1/catalogue/brands",
    "GET /v1/catalogue/categories",
    "GET /v1/catalogue/issuers",
    "GET /v1/catalogue/products",
    "GET /v1/catalogue/products/{product_id}",
    "GET /v1/evidence/checkpoint",
    "GET /v1/evidence/proofs/consistency",
    "GET /v1/evidence/proofs/inclusion",
    "GET /v1/places/merchants",
    "GET /v1/places/regions",
    "GET /v1/places/stores",
    "GET /v1/places/stores/nearby",
    "GET /v1/places/stores/{store_id}",
    "POST /v1/auth/customer/code",
    "POST /v1/auth/customer/sign-in",
    "POST /v1/auth/staff/sign-in",
    "POST /v1/callbacks/alipay",
    "POST /v1/callbacks/institution",
    "POST /v1/callbacks/wechat",
    "POST /v1/evidence/verify",
}
"""Everything that anyone may call. What is added here is added on purpose."""

NOBODYS_ID = "xxx_01jd8x9k2mf3wvq5t7y1h4n6pz"
STAFF_AT_A_STORE = ("desk_clerk", "store_manager")
STAFF_ELSEWHERE = (
    "operations", "risk_officer", "finance", "compliance", "auditor", "administrator",
)  # fmt: skip
ROLES = (
    "customer", "enterprise_member", *STAFF_AT_A_STORE, "merchant_operator", *STAFF_ELSEWHERE,
    "partner of an enterprise", "partner of a merchant",
)  # fmt: skip


@dataclass(frozen=True)
class Route:
    """One method of one path, with what it declares and a body that it documents."""

    method: str
    path: str
    access: Access | str
    body: object
    query: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, **ids: str) -> str:
        """The path with ids in it; those not given are nobody's."""
        parts = self.path.split("/")
        named = {part[1:-1] for part in parts if part.startswith("{")}
        return self.path.format(**{name: ids.get(name, NOBODYS_ID) for name in named}) + self.query


def _routes() -> list[Route]:
    app = create_app(settings_for("postgresql://nowhere/nothing"))
    paths = app.openapi_schema.to_schema()["paths"]
    found = []
    for route in app.routes:
        path = "/" if route.path == "/" else route.path_format.rstrip("/")
        for handler in getattr(route, "route_handlers", [getattr(route, "route_handler", None)]):
            for method in sorted(getattr(handler, "http_methods", ["GET"]) - {"OPTIONS"}):
                told = paths.get(path, {}).get(method.lower(), {})
                body = told.get("requestBody", {}).get("content", {}).get("application/json", {})
                needed = [
                    each["name"]
                    for each in told.get("parameters", ())
                    if each["in"] == "query" and each.get("required")
                ]
                query = "?" + "&".join(f"{name}=1" for name in needed) if needed else ""
                found.append(Route(method, path, handler.opt["access"], body.get("example"), query))
    return found


ROUTES = sorted(_routes(), key=str)
"""In one order in every process, whatever order the framework keeps them in."""
GUARDED = [route for route in ROUTES if route.access != PUBLIC]


@pytest.fixture(scope="module")
async def api(sample, copy_database) -> AsyncIterator[Api]:
    async with open_api(settings_for(await copy_database(sample.url))) as opened:
        yield opened


@dataclass(frozen=True)
class Place:
    """Where the people of these tests belong."""

    store_id: str
    merchant_id: str
    enterprise_id: str
    member_id: str


@pytest.fixture(scope="module")
async def here(api: Api, sample) -> Place:
    member = next(each for each in sample.summary.sign_in_customers if each.enterprise_id)
    async with api.desk.pool.acquire() as db:
        store = (await find_stores(db, limit=1))[0]
    return Place(store.id, store.merchant_id, member.enterprise_id, member.id)


@pytest.fixture(scope="module")
async def people(api: Api, here: Place) -> dict[str, str | PartnerKey]:
    """For each role someone who holds it: an id, or a partner's key."""
    hired = {role: await api.hire(role) for role in STAFF_ELSEWHERE}
    hired |= {
        role: await api.hire(role, store_id=here.store_id, merchant_id=here.merchant_id)
        for role in STAFF_AT_A_STORE
    }
    return {
        "customer": here.member_id,
        "enterprise_member": here.member_id,
        **hired,
        "merchant_operator": await api.hire("merchant_operator", merchant_id=here.merchant_id),
        "partner of an enterprise": await api.partner(enterprise_id=here.enterprise_id),
        "partner of a merchant": await api.partner(merchant_id=here.merchant_id),
    }


@pytest.fixture(scope="module")
async def granted(api: Api) -> dict[str, dict[str, set[str]]]:
    """What each role grants, and with which scopes, as the database has it."""
    found: dict[str, dict[str, set[str]]] = {}
    for row in await api.desk.pool.fetch("SELECT role, permission, scope FROM base.role_grant"):
        found.setdefault(row["role"], {}).setdefault(row["permission"], set()).add(row["scope"])
    partner = found["partner"]
    for kind, place in (("an enterprise", "enterprise"), ("a merchant", "merchant")):
        found[f"partner of {kind}"] = {
            word: scopes & {place, "all"} for word, scopes in partner.items() if scopes & {place, "all"}
        }
    return found


async def send_as(api: Api, role: str, who: str | PartnerKey, route: Route, *, enterprise_id: str):
    """One request with a session opened for it alone, for some routes end sessions."""
    path = route.at()
    content = msgspec.json.encode(route.body) if route.body is not None else b""
    if isinstance(who, PartnerKey):
        headers = signed_headers(who, route.method, path, content)
        return await api.send(route.method, path, content=content or None, headers=headers)
    if role == "customer":
        token = await api.customer_token(who)
    elif role == "enterprise_member":
        token = await api.customer_token(who, acts_for=enterprise_id)
    else:
        token = await api.staff_token(who)
    return await api.send(route.method, path, content=content or None, token=token)


def test_every_route_declares_who_may_call_it():
    assert len(GUARDED) > 50
    for route in ROUTES:
        assert route.access == PUBLIC or isinstance(route.access, Access), route
    assert {route.access.permission for route in GUARDED} <= set(PERMISSIONS)


def test_what_is_public_is_public_on_purpose():
    assert {str(route) for route in ROUTES if route.access == PUBLIC} == OPEN


async def test_every_role_of_the_database_is_tried(granted):
    assert set(granted) - {"partner"} == set(ROLES)


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_a_route_lets_in_exactly_the_roles_that_hold_what_it_needs(route, api, people, granted, here):
    for role in ROLES:
        answer = await send_as(api, role, people[role], route, enterprise_id=here.enterprise_id)
        held = granted[role].get(route.access.permission, set())
        let_in = bool(held & route.access.scopes)
        assert answer.status_code < 500, (role, answer.text)
        assert answer.status_code != 401, role
        assert (answer.status_code == 403) is not let_in, (role, answer.text)
        if not let_in:
            assert problem_of(answer) == "forbidden"


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_without_credentials_nothing_that_is_not_public_answers(route, api):
    content = msgspec.json.encode(route.body) if route.body is not None else None
    told = set()
    for headers in ({}, {"authorization": "Bearer cs_nobody"}, {"authorization": "Bearer ss_nobody"},
                    {"authorization": "Basic eDp5"}, {"quanhui-key": "pky_nobody"}):  # fmt: skip
        answer = await api.send(route.method, route.at(), content=content, headers=headers)
        assert answer.status_code == 401
        assert problem_of(answer) == "unauthenticated"
        told.add(answer.content)
    assert len(told) == 1, "what is wrong with the credentials is not told"


async def test_a_session_that_was_ended_opens_nothing(api, people):
    for role in ("customer", "finance"):
        open_one = api.customer_token if role == "customer" else api.staff_token
        token = await open_one(people[role])
        path = "/v1/me" if role == "customer" else "/v1/staff/me"
        assert (await api.get(path, token=token)).status_code == 200
        async with api.desk.pool.acquire() as db:
            found = await db.fetchval("SELECT id FROM base.session WHERE token_hash = $1", hash_token(token))
            await end_session(db, found, now=clock.now())
        assert problem_of(await api.get(path, token=token)) == "unauthenticated"


async def test_a_customers_token_is_no_staff_token(api, people):
    token = await api.customer_token(people["customer"])
    assert (await api.get("/v1/staff/me", token="ss_" + token[3:])).status_code == 401


async def test_a_signature_fits_one_request_once(api, people):
    key = people["partner of an enterprise"]
    path = "/v1/market/listings"
    headers = signed_headers(key, "GET", path, b"")
    assert (await api.get(path + "?limit=1", headers=headers)).status_code == 401
    assert (await api.get(path, headers=headers)).status_code == 200
    assert (await api.get(path, headers=headers)).status_code == 401


@dataclass(frozen=True)
class Owned:
    """One thing of each kind that somebody owns, and who may not know that it is there."""

    ids: dict[str, str]
    strangers: dict[str, str]


@pytest.fixture(scope="module")
async def owned(api: Api, here: Place, sample) -> Owned:
    """A seller's order and payout, their purchase and payee, a redemption at a store and its statement."""
    owner, stranger = sample.summary.sign_in_customers[0].id, sample.summary.sign_in_customers[-1].id
    token = await api.customer_token(owner)
    payee_id = await api.own(owner)
    order = await sell_one(api, token, sample)
    accepted = await api.post(
        f"/v1/buyback/orders/{order['id']}/accept",
        {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": payee_id},
        token=token,
    )
    assert accepted.status_code == 200, accepted.text
    await api.work()
    (payout,) = (await api.get("/v1/payouts", token=token)).json()["items"]
    (listing, *_) = (await api.get("/v1/market/listings", token=token)).json()["items"]
    bought = await api.post("/v1/market/purchases", {"listing_ids": [listing["id"]]}, token=token)
    clerk = await api.staff_token(
        await api.hire("desk_clerk", store_id=here.store_id, merchant_id=here.merchant_id)
    )
    boss = await api.staff_token(await api.hire("merchant_operator", merchant_id=here.merchant_id))
    redeemed = await redeem_one(api, clerk, sample)
    await api.work(ahead=timedelta(days=2))
    (statement, *_) = (await api.get("/v1/merchants/statements", token=boss)).json()["items"]
    async with api.desk.pool.acquire() as db:
        elsewhere = (await find_stores(db, limit=20))[-1]
        others = [each.id for each in await find_merchants(db, cursor=None, limit=20)]
    other_merchant = next(each for each in others if each != here.merchant_id)
    other_company = next(
        each
        for each in sample.summary.sign_in_customers
        if each.enterprise_id and each.enterprise_id != here.enterprise_id
    )
    return Owned(
        ids={
            "order_id": order["id"],
            "payout_id": payout["id"],
            "purchase_id": bought.json()["id"],
            "payee_id": payee_id,
            "redemption_id": redeemed["id"],
            "statement_id": statement["id"],
            "enterprise_id": here.enterprise_id,
        },
        strangers={
            "customer": await api.customer_token(stranger),
            "enterprise_member": await api.customer_token(
                other_company.id, acts_for=other_company.enterprise_id
            ),
            "desk_clerk": await api.staff_token(
                await api.hire("desk_clerk", store_id=elsewhere.id, merchant_id=other_merchant)
            ),
            "merchant_operator": await api.staff_token(
                await api.hire("merchant_operator", merchant_id=other_merchant)
            ),
        },
    )


async def sell_one(api: Api, token: str, sample) -> dict:
    """Sell the first sample voucher that gets a quote."""
    for told in sample.summary.own_codes:
        answer = await api.post("/v1/buyback/orders", {"items": [{"code": told.code}]}, token=token)
        if answer.status_code == 201 and "cash" in answer.json()["quote"]["methods"]:
            return answer.json()
    raise AssertionError(answer.text)


async def redeem_one(api: Api, token: str, sample) -> dict:
    """Redeem the first sample voucher that this till takes."""
    for told in sample.summary.own_codes[2:]:
        answer = await api.post("/v1/redemptions", {"code": told.code}, token=token)
        if answer.status_code == 201:
            return answer.json()
    raise AssertionError(answer.text)


KEPT_APART = [route for route in GUARDED if set(route.access.scopes) != {"all"} and "{" in route.path]


def test_things_that_somebody_owns_are_reached_by_these_routes():
    kinds = {part[1:-1] for route in KEPT_APART for part in route.path.split("/") if part.startswith("{")}
    assert kinds == {
        "order_id", "payout_id", "purchase_id", "payee_id", "redemption_id", "enterprise_id", "statement_id",
    }  # fmt: skip


@pytest.mark.parametrize("route", KEPT_APART, ids=str)
async def test_what_is_a_strangers_and_what_is_not_there_look_alike(route, api, owned, granted):
    tried = 0
    for role, token in owned.strangers.items():
        if not granted[role].get(route.access.permission, set()) & route.access.scopes - {"all"}:
            continue
        tried += 1
        content = msgspec.json.encode(route.body) if route.body is not None else None
        theirs, nothing = [
            await api.send(route.method, path, content=content, token=token)
            for path in (route.at(**owned.ids), route.at())
        ]
        assert (theirs.status_code, problem_of(theirs)) == (404, "not-found"), theirs.text
        assert theirs.content == nothing.content
        differing = {name for name in theirs.headers if theirs.headers[name] != nothing.headers.get(name)}
        assert differing == {"x-request-id"}
    assert tried


async def test_the_owner_finds_what_strangers_do_not(api, owned, sample):
    token = await api.customer_token(sample.summary.sign_in_customers[0].id)
    for path in ("buyback/orders/{order_id}", "payouts/{payout_id}", "market/purchases/{purchase_id}"):
        assert (await api.get("/v1/" + path.format(**owned.ids), token=token)).status_code == 200
