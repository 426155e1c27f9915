"""The catalogue over HTTP, with what `entry` would inject."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from litestar import Litestar, Request, Response
from litestar.di import Provide

from quanhui.base.access import NOBODY, PUBLIC, Access, Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.errors import Problem
from quanhui.base.web import Call
from quanhui.catalogue import CatalogueCache, enrol
from quanhui.catalogue.routes import handlers

NEW_PRODUCT = {
    "category": "supermarket",
    "zh": "蓉家福节日卡",
    "en": "Rongjiafu holiday card",
    "legal_class": "single_purpose_bearer",
    "multi_draw": True,
    "face_values_fen": [10_000],
    "code_format": {"prefix": "88", "alphabet": "0123456789", "body_length": 14, "check": "luhn"},
    "fee_bps": 900,
    "validity": {"days_from_issue": 1095},
}


@pytest.fixture
async def client(pool: Pool, now, issuer, brand, product) -> AsyncIterator[httpx.AsyncClient]:
    async with transaction(pool) as db:
        await enrol(db, issuers=[issuer], brands=[brand], products=[product], now=now)
    catalogues = CatalogueCache()

    async def call(request: Request) -> Call:
        return Call(
            actor=NOBODY,
            now=now,
            pool=pool,
            target=f"{request.method} {request.url.path}",
            key=request.headers.get("idempotency-key"),
            body=await request.body(),
            device_id=None,
        )

    app = Litestar(
        handlers,
        dependencies={
            "call": Provide(call),
            "catalogues": Provide(lambda: catalogues, sync_to_thread=False),
        },
        exception_handlers={Problem: _show},
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


def _show(_request: Request, problem: Problem):
    return Response({"code": problem.code, **problem.facts}, status_code=problem.status)


@pytest.fixture
def post(client) -> Callable:
    async def send(path: str, body: dict, *, key: str) -> httpx.Response:
        return await client.post(path, json=body, headers={"idempotency-key": key})

    return send


def test_anyone_may_look_and_only_those_who_manage_the_catalogue_may_change_it():
    manage = Access("catalogue.manage", frozenset({Scope.ALL}))
    for handler in handlers:
        reads = handler.http_methods <= {"GET", "HEAD", "OPTIONS"}
        assert handler.opt["access"] == (PUBLIC if reads else manage), handler


async def test_a_product_is_shown_with_its_issuer_and_brand_and_without_its_code_format(client, product):
    shown = (await client.get(f"/catalogue/products/{product.id}")).json()
    assert (shown["zh"], shown["issuer"]["is_own"], shown["brand"]["zh"]) == (product.zh, True, "蓉家福")
    assert shown["category"]["zh"] == "商超"
    assert "code_format" not in shown
    assert (await client.get("/catalogue/products/vpr_0")).status_code == 404


async def test_a_new_product_is_data_and_is_listed_at_once(client, post, issuer, brand, product):
    body = {**NEW_PRODUCT, "issuer_id": issuer.id, "brand_id": brand.id}
    made = await post("/catalogue/products", body, key="k1")
    assert made.status_code == 201
    listed = (await client.get("/catalogue/products")).json()["items"]
    assert [item["id"] for item in listed] == [made.json()["id"], product.id]
    again = await post("/catalogue/products", body, key="k1")
    assert again.content == made.content


async def test_products_are_paged_by_cursor_and_filtered(client, post, issuer, brand, product):
    body = {**NEW_PRODUCT, "issuer_id": issuer.id, "brand_id": brand.id}
    newer = (await post("/catalogue/products", body, key="k1")).json()["id"]
    first = (await client.get("/catalogue/products", params={"limit": 1})).json()
    assert ([item["id"] for item in first["items"]], first["next_cursor"]) == ([newer], newer)
    rest = (await client.get("/catalogue/products", params={"limit": 1, "cursor": newer})).json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == ([product.id], None)
    found = (await client.get("/catalogue/products", params={"text": "节日"})).json()
    assert [item["id"] for item in found["items"]] == [newer]
    assert (await client.get("/catalogue/products", params={"category": "fuel"})).json()["items"] == []


async def test_a_product_of_an_unknown_issuer_is_refused(post, brand):
    body = {**NEW_PRODUCT, "issuer_id": "iss_0", "brand_id": brand.id}
    refused = await post("/catalogue/products", body, key="k1")
    assert (refused.status_code, refused.json()) == (
        409,
        {"code": "unknown-reference", "field": "issuer_id"},
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"fee_bps": 700},
        {"face_values_fen": []},
        {"face_values_fen": [-1]},
        {"category": "Super Market"},
        {"code_format": {"prefix": "88", "alphabet": "ABC", "body_length": 14, "check": "luhn"}},
        {"validity": {"days_from_issue": 1, "last_day": "2027-01-01"}},
        {"region_codes": ["51"]},
        {"unheard_of": 1},
    ],
)
async def test_a_malformed_product_is_not_taken(post, issuer, brand, wrong):
    body = {**NEW_PRODUCT, "issuer_id": issuer.id, "brand_id": brand.id, **wrong}
    assert (await post("/catalogue/products", body, key="k1")).status_code == 400


async def test_categories_issuers_and_brands_are_added_and_listed(client, post):
    bakery = {"code": "bakery", "zh": "烘焙", "en": "Bakery"}
    assert (await post("/catalogue/categories", bakery, key="k1")).status_code == 201
    assert (await client.get("/catalogue/categories")).json()[-1] == bakery
    assert (await post("/catalogue/categories", bakery, key="k2")).json() == {"code": "category-exists"}
    outside = {
        "zh": "锦川通",
        "en": "Jinchuantong",
        "connector": "sandbox",
        "capabilities": ["verify"],
        "base_url_key": "issuer_url",
    }
    issuer = (await post("/catalogue/issuers", outside, key="k3")).json()
    assert issuer["is_own"] is False
    assert issuer in (await client.get("/catalogue/issuers")).json()
    nowhere = {**outside, "base_url_key": None}
    assert (await post("/catalogue/issuers", nowhere, key="k4")).status_code == 400
    brand = (await post("/catalogue/brands", {"zh": "锦川通", "en": "Jinchuantong"}, key="k5")).json()
    assert brand in (await client.get("/catalogue/brands")).json()


async def test_a_product_is_suspended(client, product):
    answer = await client.patch(
        f"/catalogue/products/{product.id}",
        json={"status": "suspended"},
        headers={"idempotency-key": "k1"},
    )
    assert answer.json() == {"id": product.id, "status": "suspended", "version": 2}
    shown = (await client.get(f"/catalogue/products/{product.id}")).json()
    assert (shown["status"], shown["version"]) == ("suspended", 2)
