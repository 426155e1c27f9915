"""What the API does with what it should not have been sent: a clear answer, nothing lost, nothing given away.

Every test ends with a look through all that was logged, answered and asked for: no code, no phone number.
"""

import asyncio
import re

import msgspec
import pytest
from factories.api import SELL, Api, count_orders, offer, problem_of

from quanhui.base import clock
from quanhui.base.signing import sign

CALLBACK = "/v1/callbacks/institution"

pytestmark = pytest.mark.usefixtures("_nothing_is_given_away")


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_and_body_get_the_same_answer(api, seller, codes):
    body = {"items": [{"code": next(codes)}]}
    first = await api.post(SELL, body, token=seller, key="once")
    before = await count_orders(api)
    again = await api.post(SELL, body, token=seller, key="once")
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, again.content)
    assert await count_orders(api) == before


async def test_the_same_key_with_another_body_is_refused(api, seller, codes):
    await api.post(SELL, {"items": [{"code": next(codes)}]}, token=seller, key="mine")
    for answer in (
        await api.post(SELL, {"items": [{"code": next(codes)}]}, token=seller, key="mine"),
        await api.post("/v1/me/consents", {"purpose": "terms", "version": "1"}, token=seller, key="mine"),
    ):
        assert (answer.status_code, problem_of(answer)) == (409, "idempotency-key-reused")


async def test_a_key_belongs_to_whoever_used_it(api, sample, codes):
    for number in (5, 6):
        token = await api.customer_token(sample.summary.sign_in_customers[number].id)
        body = {"items": [{"code": next(codes)}]}
        assert (await api.post(SELL, body, token=token, key="of-two")).status_code == 201


async def test_a_refused_command_does_not_poison_its_key(api, seller):
    body = {"real_name": "王小明", "id_number": "11010519491231002X"}
    wrong = {**body, "id_number": "110105194912310021"}
    refused = await api.post("/v1/me/identity", wrong, token=seller, key="a-try")
    assert 400 <= refused.status_code < 500
    assert (await api.post("/v1/me/identity", body, token=seller, key="a-try")).status_code == 201


async def test_requests_at_once_with_one_key_have_one_effect(api, seller, codes):
    body = {"items": [{"code": next(codes)}]}
    before = await count_orders(api)
    answers = await asyncio.gather(*(api.post(SELL, body, token=seller, key="together") for _ in range(6)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert await count_orders(api) == before + 1


@pytest.mark.parametrize(
    "key", [None, " ", "two words", "k" * 129, "一把钥匙".encode(), b"tab\tbed", b"caf\xe9"], ids=repr
)
async def test_a_key_that_is_missing_or_strange_is_asked_for(api, seller, codes, key):
    headers = {"idempotency-key": key} if isinstance(key, bytes) else {}
    body = {"items": [{"code": next(codes)}]}
    before = await count_orders(api)
    answer = await api.post(
        SELL, body, token=seller, key=None if isinstance(key, bytes) else key, headers=headers
    )
    assert (answer.status_code, problem_of(answer)) == (400, "idempotency-key-missing")
    assert await count_orders(api) == before


# ── Bodies, paths and queries ─────────────────────────────────────────────────────────────────────────────


async def test_a_body_over_the_limit_is_not_read(api, seller):
    limit = api.app.state.settings.body_limit_bytes
    content = b'{"items": [{"code": "' + b"A" * limit + b'"}]}'
    answer = await api.post(SELL, token=seller, content=content)
    assert (answer.status_code, problem_of(answer)) == (413, "body-too-large")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
async def test_a_command_in_something_else_than_json_is_refused(api, seller, kind):
    answer = await api.post(SELL, token=seller, content=b'{"items": []}', headers={"content-type": kind})
    assert (answer.status_code, problem_of(answer)) == (415, "unsupported-media-type")


BROKEN = {
    "nothing": b"",
    "half": b'{"items": [{"co',
    "not UTF-8": b'{"items": [{"code": "\xff\xfe\xfd\xfc"}]}',
    "half a surrogate": b'{"items": [{"code": "\\ud83d abc"}]}',
    "a number": b"5",
    "nested too deep": b"[" * 40_000 + b"]" * 40_000,
    "nested too deep inside": b'{"items": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "wrong types": b'{"items": [{"code": 12345678}]}',
    "an unknown field": b'{"items": [{"code": "ABCD1234"}], "price_fen": 1}',
    "an unknown field inside": b'{"items": [{"code": "ABCD1234", "net_fen": 1}]}',
    "nothing to sell": b'{"items": []}',
    "too many": msgspec.json.encode({"items": [{"code": "ABCD1234"}] * 101}),
    "too long a code": msgspec.json.encode({"items": [{"code": "A" * 129}]}),
    "null": b"null",
    "not a number": b'{"items": NaN}',
    "two objects": b'{"items": [{"code": "ABCD1234"}]}{}',
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_cannot_be_read_is_malformed(api, seller, name):
    before = await count_orders(api)
    answer = await api.post(SELL, token=seller, content=BROKEN[name])
    assert (answer.status_code, problem_of(answer)) == (422, "malformed-request")
    assert await count_orders(api) == before


async def test_a_code_in_the_wrong_place_is_not_repeated(api, sample, codes):
    owner = sample.summary.sign_in_customers[7].id
    token, code = await api.customer_token(owner), next(codes)
    phone = sample.summary.sign_in_customers[7].phone
    for body in (
        {"items": [{"code": "ABCD1234", code: 1}]},
        {"items": code},
        {"items": [{"code": {"is": code}}]},
        {code: code},
    ):
        assert problem_of(await api.post(SELL, body, token=token)) == "malformed-request"
    accept = {"quote_id": "quo_x", "method": code}
    assert problem_of(await api.post(f"{SELL}/ord_x/accept", accept, token=token)) == "malformed-request"
    body = {"purpose": phone, "version": "1"}
    assert problem_of(await api.post("/v1/me/consents", body, token=token)) == "malformed-request"


async def test_nul_characters_are_malformed_wherever_they_stand(api, seller):
    rejected = await offer(api, seller, "NOT A CODE")
    order_id = rejected.json()["facts"]["order_id"]
    for answer in (
        await api.post(f"{SELL}/{order_id}/appeal", {"words": "看\x00看"}, token=seller),
        await api.get("/v1/places/stores?text=%00"),
        await api.get("/v1/places/stores/sto_%00"),
        await api.get("/v1/market/listings?cursor=%00", token=seller),
        await api.get(f"{SELL}?cursor=%00", token=seller),
    ):
        assert answer.status_code in (404, 422)
        problem_of(answer)
    answer = await api.post(f"{SELL}/{order_id}/appeal", {"words": "请再看一次。"}, token=seller)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=-1", "limit=ten", "limit=99999999999999999999", "limit=1e3", "limit=",
        "sort=price;DROP TABLE vouchers.voucher", "sort=id", "min_fen=-1", "max_fen=1e400", "region=51",
        "text=" + "长" * 101, "min_fen=NaN",
    ],
)  # fmt: skip
async def test_a_query_out_of_bounds_is_malformed(api, seller, query):
    answer = await api.get(f"/v1/market/listings?{query}", token=seller)
    assert (answer.status_code, problem_of(answer)) == (422, "malformed-request")


@pytest.mark.parametrize(
    "query",
    ["lon=0);DROP TABLE places.store;--&lat=0", "lon=181&lat=0", "lon=nan&lat=0", "lon=inf&lat=0", "lat=1"],
)
async def test_coordinates_are_numbers_on_the_globe(api, query):
    answer = await api.get(f"/v1/places/stores/nearby?{query}")
    assert (answer.status_code, problem_of(answer)) == (422, "malformed-request")


async def test_words_to_look_for_are_words_and_no_pattern_or_sql(api):
    every = (await api.get("/v1/places/stores?limit=100")).json()["items"]
    assert every
    for text in ("%", "_", "' OR 1=1 --", "\\", "')) UNION SELECT code FROM vouchers.code --"):
        answer = await api.client.get("/v1/places/stores", params={"text": text})
        assert (answer.status_code, answer.json()["items"]) == (200, []), text


async def test_a_cursor_that_is_none_gives_a_page_or_a_problem(api, seller):
    for cursor in ("x", "ord_", "'", "zzzz", "-1", "9" * 60, "一"):
        for path in (SELL, "/v1/payouts", "/v1/market/listings", "/v1/market/listings?sort=price"):
            answer = await api.get(f"{path}{'&' if '?' in path else '?'}cursor={cursor}", token=seller)
            assert answer.status_code in (200, 422)


async def test_paths_and_methods_that_are_not_there(api, seller):
    assert problem_of(await api.get("/v1/nothing", token=seller)) == "not-found"
    assert problem_of(await api.get("/.env")) == "not-found"
    assert problem_of(await api.get("/docs-assets/../http.py")) == "not-found"
    assert problem_of(await api.get("/docs-assets/%2e%2e/%2e%2e/__init__.py")) == "not-found"
    answer = await api.send("PUT", SELL, {}, token=seller)
    assert (answer.status_code, problem_of(answer)) == (405, "method-not-supported")
    assert {"GET", "POST"} <= {each.strip() for each in answer.headers["allow"].split(",")}
    assert problem_of(await api.post("/v1/staff/partners", {"name": "甲方"}, token=seller)) == "forbidden"


async def test_a_phone_or_code_of_a_stranger_is_not_told_from_none(api, sample):
    known, unknown = sample.summary.sign_in_customers[8].phone, "13700000000"
    told = [await api.post("/v1/auth/customer/code", {"phone": phone}) for phone in (known, unknown)]
    assert told[0].content == told[1].content
    tries = [
        await api.post("/v1/auth/customer/sign-in", {"phone": phone, "code": "000000"})
        for phone in (known, unknown)
    ]
    assert [problem_of(each) for each in tries] == ["code-refused"] * 2
    assert tries[0].content == tries[1].content


async def test_too_many_tries_say_when_to_come_back(api):
    for _ in range(7):
        answer = await api.post("/v1/auth/customer/code", {"phone": "13700000001"})
    assert (answer.status_code, problem_of(answer)) == (429, "too-many-attempts")
    assert int(answer.headers["retry-after"]) == answer.json()["facts"]["retry_after_s"] > 0


# ── Reading changes nothing; nobody else speaks for the institution ───────────────────────────────────────


async def everything(api: Api) -> dict[str, str]:
    """A digest of each table but those that remember who is signed in."""
    names = await api.desk.pool.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename <> 'session'"
    )
    return {
        row["name"]: await api.desk.pool.fetchval(
            f"SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM {row['name']} t"
        )
        for row in names
    }


async def test_no_get_changes_anything(api, seller, codes):
    tokens = [
        seller,
        await api.staff_token(await api.hire("auditor", "administrator", "finance", "operations")),
    ]
    order_id = (await offer(api, seller, next(codes))).json()["id"]
    before = await everything(api)
    paths = api.app.openapi_schema.to_schema()["paths"]
    answered = 0
    for path in [path for path, methods in paths.items() if "get" in methods]:
        for token in tokens:
            answer = await api.get(re.sub(r"{\w+}", order_id, path), token=token)
            assert answer.status_code < 500
            answered += answer.status_code == 200
    assert answered > 25
    assert await everything(api) == before


async def test_a_callback_without_the_institutions_signature_changes_nothing(api, outside):
    content = b'{"events": [{"id": "evt_1", "kind": "transfer", "out_no": "x", "state": "succeeded"}]}'
    secret, now = outside.bank.callback_secret, clock.now()
    good = sign(secret, id="msg_1", now=now, body=content)
    before = await everything(api)
    for headers in (
        {},
        sign(b"another secret of thirty-two byte", id="msg_1", now=now, body=content),
        sign(outside.bank.secret, id="msg_1", now=now, body=content),
        sign(secret, id="msg_1", now=now, body=content + b" "),
        sign(secret, id="msg_1", now=now.replace(year=now.year - 1), body=content),
        {**good, "webhook-id": "msg_2"},
        {**good, "webhook-timestamp": "soon"},
    ):
        answer = await api.post(CALLBACK, content=content, headers=headers)
        assert (answer.status_code, problem_of(answer)) == (401, "callback-refused")
    assert await everything(api) == before
