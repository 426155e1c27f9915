"""What the API does with what it should not have been sent: a clear answer, nothing lost, nothing given away.

Every test ends with a look through all that was logged, answered and asked for: no code, no phone number.
"""

import asyncio
import itertools
import logging
import random
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import msgspec
import pytest
from factories.api import Api, open_api, problem_of, settings_for
from fakes.outside import Sandbox, start_sandbox
from structlog.testing import capture_logs

from quanhui import customers
from quanhui.base import clock
from quanhui.base.db import transaction
from quanhui.base.signing import sign
from quanhui.catalogue import LegalClass, load_catalogue, make_code
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.sample.people import FIRST_PHONE
from quanhui.sample.vouchers import own_vouchers
from quanhui.vouchers import fingerprint_of

SELL = "/v1/buyback/orders"
BODY_LIMIT = 100_000
LONG_LIVED_DAYS = 200
PAID_WITHIN_S = 0.1
AN_ID = re.compile(r"\b[a-z]{3,4}_[0-9a-z]{26}\b")
CALLBACK = "/v1/callbacks/institution"


@dataclass(frozen=True)
class Party:
    """The parties outside, which tests kill and start again."""

    issuer: Sandbox
    bank: Sandbox


@pytest.fixture(scope="module")
def outside(sample, tmp_path_factory) -> Iterator[Party]:
    folder = tmp_path_factory.mktemp("outside")
    with (
        start_sandbox("issuer", folder, seed_file=sample.outside_seed_file) as issuer,
        start_sandbox("institution", folder, settle_s=PAID_WITHIN_S / 2) as bank,
    ):
        yield Party(issuer, bank)


@pytest.fixture(scope="module")
async def api(sample, copy_database, outside) -> AsyncIterator[Api]:
    settings = settings_for(
        await copy_database(sample.url),
        body_limit_bytes=BODY_LIMIT,
        issuer_url=outside.issuer.url,
        issuer_secret=outside.issuer.secret,
        institution_url=outside.bank.url,
        institution_secret=outside.bank.secret,
        callback_secret=outside.bank.callback_secret,
    )
    async with open_api(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def codes(sample) -> Iterator[str]:
    """Good codes of our own issue that anyone may offer, each once."""
    return (
        voucher.code
        for voucher in own_vouchers(7, sample.summary.vouchers, now=clock.now())
        if voucher.product.legal_class is LegalClass.SINGLE_PURPOSE_BEARER
        and (voucher.expires_at - clock.now()).days > LONG_LIVED_DAYS
    )


@pytest.fixture(scope="module")
async def secrets(api, sample) -> set[str]:
    """Every code there is, without spaces, and every phone number."""
    own = {voucher.code for voucher in own_vouchers(7, sample.summary.vouchers, now=clock.now())}
    outside = {
        msgspec.json.decode(line)["code"] for line in sample.outside_seed_file.read_bytes().splitlines()
    }
    return own | outside | {str(FIRST_PHONE + number) for number in range(sample.summary.customers)}


@pytest.fixture(autouse=True)
def _nothing_is_given_away(api, secrets, caplog) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    api.answers.clear()
    with capture_logs() as events:
        yield
    told = [str(event) for event in events] + [record.getMessage() for record in caplog.records]
    told += [str(record.exc_info) for record in caplog.records if record.exc_info]
    for answer in api.answers:
        told.append(str(answer.request.url))
        if answer.status_code >= 400:
            told.append(answer.text)
    words = set(re.findall(r"[0-9A-Za-z]{8,}", "\n".join(told)))
    assert not words & secrets


_phones = itertools.count(13_900_000_001)


@pytest.fixture
async def seller(api) -> str:
    """The token of somebody new: what others did before does not count against them."""
    phone = str(next(_phones))
    async with transaction(api.desk.pool) as db:
        admitted = await customers.admit_customers(db, api.desk.keyring, [phone], now=clock.now())
    return await api.customer_token(admitted[phone].id)


async def offer(api: Api, token: str, code: str, **more):
    return await api.post(SELL, {"items": [{"code": code, **more}]}, token=token)


async def change_voucher(api: Api, code: str, change: str) -> None:
    """Change the voucher of one of our own codes behind the platform's back."""
    catalogue = await load_catalogue(api.desk.pool)
    (candidate,) = catalogue.recognise(code)
    issuer = catalogue.issuer_of(candidate.product_id)
    fingerprint = fingerprint_of(api.desk.keyring, issuer_id=issuer.id, code=code)
    done = await api.desk.pool.execute(
        f"UPDATE vouchers.voucher SET {change}"
        " WHERE id = (SELECT voucher_id FROM vouchers.code WHERE fingerprint = $1)",
        fingerprint,
    )
    assert done == "UPDATE 1"


async def unknown_code(api: Api, code: str) -> str:
    """A code in the form of another one, with a right check character, that nobody ever issued."""
    catalogue = await load_catalogue(api.desk.pool)
    (candidate,) = catalogue.recognise(code)
    return make_code(catalogue.products[candidate.product_id].code_format, random.Random(1))


async def orders(api: Api) -> int:
    return await api.desk.pool.fetchval("SELECT count(*) FROM buyback.buyback_order")


# ── Vouchers that cannot be sold ──────────────────────────────────────────────────────────────────────────


async def test_a_text_that_is_no_code_is_called_so(api, seller, codes):
    code = next(codes)
    wrong = code[:-1] + ("2" if code[-1] != "2" else "3")
    for text in ("NOT A CODE AT ALL", "0000", "券码券码", "'; DROP TABLE vouchers.voucher; --", wrong):
        assert problem_of(await offer(api, seller, text)) == "code-malformed"


async def test_a_code_of_another_product_is_told_apart(api, seller, codes):
    code = next(codes)
    catalogue = await load_catalogue(api.desk.pool)
    (candidate,) = catalogue.recognise(code)
    other = next(each for each in catalogue.products if each != candidate.product_id)
    assert problem_of(await offer(api, seller, code, product_id=other)) == "product-mismatch"
    assert problem_of(await offer(api, seller, "NOPE 1234", product_id="vpr_nothing")) == "code-malformed"


async def test_what_is_worthless_is_called_so(api, seller, codes):
    expired, empty = next(codes), next(codes)
    await change_voucher(api, expired, "expires_at = now() - interval '1 day'")
    await change_voucher(api, empty, "captured_fen = verified_fen, value = 'exhausted'")
    assert problem_of(await offer(api, seller, expired)) == "voucher-expired"
    assert problem_of(await offer(api, seller, empty)) == "voucher-empty"


async def test_refusals_that_would_help_to_guess_are_the_same_to_the_byte(api, seller, codes):
    frozen, held = next(codes), next(codes)
    await change_voucher(api, frozen, "integrity = 'frozen'")
    await change_voucher(api, held, "holder_id = 'cus_somebody_else'")
    told = [await offer(api, seller, code) for code in (await unknown_code(api, frozen), frozen, held)]
    assert [problem_of(each) for each in told] == ["voucher-not-accepted"] * 3
    assert len({AN_ID.sub("<id>", each.text) for each in told}) == 1
    assert len({len(each.headers["content-length"]) for each in told}) == 1


async def test_a_code_that_stands_twice_is_refused_the_second_time(api, seller, codes):
    code = next(codes)
    answer = await api.post(SELL, {"items": [{"code": code}, {"code": code.lower()}]}, token=seller)
    assert [line["problem"] and line["problem"]["type"] for line in answer.json()["lines"]] == [
        None,
        "/problems/duplicate-code",
    ]


async def test_a_claimed_voucher_is_refused_like_an_unknown_one(api, sample, seller, codes):
    code = next(codes)
    owner = sample.summary.sign_in_customers[1].id
    token = await api.customer_token(owner)
    order = (await offer(api, token, code)).json()
    accepted = await api.post(
        f"{SELL}/{order['id']}/accept",
        {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": await api.own(owner)},
        token=token,
    )
    assert accepted.status_code == 200
    assert problem_of(await offer(api, seller, code)) == "voucher-not-accepted"


async def test_a_quote_that_lapsed_cannot_be_accepted(api, sample, codes):
    owner = sample.summary.sign_in_customers[2].id
    token = await api.customer_token(owner)
    order = (await offer(api, token, next(codes))).json()
    async with transaction(api.desk.pool) as db:
        await db.execute("SET LOCAL session_replication_role = replica")  # a quote is immutable otherwise
        await db.execute(
            "UPDATE buyback.quote SET expires_at = now() - interval '1 second' WHERE order_id = $1",
            order["id"],
        )
    choice = {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": await api.own(owner)}
    answer = await api.post(f"{SELL}/{order['id']}/accept", choice, token=token)
    assert (answer.status_code, problem_of(answer)) == (410, "quote-expired")


async def test_a_payee_of_somebody_else_is_not_paid(api, sample, codes):
    mine, theirs = sample.summary.sign_in_customers[3].id, sample.summary.sign_in_customers[4].id
    token = await api.customer_token(mine)
    order = (await offer(api, token, next(codes))).json()
    told = []
    for payee_id in (await api.own(theirs), "pya_01jd8x9k2mf3wvq5t7y1h4n6pz"):
        choice = {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": payee_id}
        answer = await api.post(f"{SELL}/{order['id']}/accept", choice, token=token)
        told.append((answer.status_code, problem_of(answer), answer.content))
    assert told[0] == told[1]
    assert told[0][0] < 500


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_and_body_get_the_same_answer(api, seller, codes):
    body = {"items": [{"code": next(codes)}]}
    first = await api.post(SELL, body, token=seller, key="once")
    before = await orders(api)
    again = await api.post(SELL, body, token=seller, key="once")
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, again.content)
    assert await orders(api) == before


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
    before = await orders(api)
    answers = await asyncio.gather(*(api.post(SELL, body, token=seller, key="together") for _ in range(6)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert await orders(api) == before + 1


@pytest.mark.parametrize(
    "key", [None, " ", "two words", "k" * 129, "一把钥匙".encode(), b"tab\tbed", b"caf\xe9"], ids=repr
)
async def test_a_key_that_is_missing_or_strange_is_asked_for(api, seller, codes, key):
    headers = {"idempotency-key": key} if isinstance(key, bytes) else {}
    body = {"items": [{"code": next(codes)}]}
    before = await orders(api)
    answer = await api.post(
        SELL, body, token=seller, key=None if isinstance(key, bytes) else key, headers=headers
    )
    assert (answer.status_code, problem_of(answer)) == (400, "idempotency-key-missing")
    assert await orders(api) == before


# ── Bodies, paths and queries ─────────────────────────────────────────────────────────────────────────────


async def test_a_body_over_the_limit_is_not_read(api, seller):
    content = b'{"items": [{"code": "' + b"A" * BODY_LIMIT + b'"}]}'
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
    before = await orders(api)
    answer = await api.post(SELL, token=seller, content=BROKEN[name])
    assert (answer.status_code, problem_of(answer)) == (422, "malformed-request")
    assert await orders(api) == before


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


async def test_no_get_changes_anything(api, sample):
    tokens = [
        await api.customer_token(sample.summary.sign_in_customers[0].id),
        await api.staff_token(await api.hire("auditor", "administrator", "finance", "operations")),
    ]
    order_id = await api.desk.pool.fetchval("SELECT id FROM buyback.buyback_order LIMIT 1")
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


# ── Parties that are away ─────────────────────────────────────────────────────────────────────────────────


async def test_a_dead_issuer_makes_no_order_and_the_same_key_works_once_it_is_back(
    api, sample, seller, outside
):
    told = next(
        each for each in sample.summary.outside_codes if each.legal_class is LegalClass.SINGLE_PURPOSE_BEARER
    )
    body = {"items": [{"code": told.code}]}
    outside.issuer.kill()
    before = await orders(api)
    answer = await api.post(SELL, body, token=seller, key="patience")
    assert (answer.status_code, problem_of(answer)) == (503, "outside-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert await orders(api) == before
    outside.issuer.process = outside.issuer.start_again().process
    answer = await api.post(SELL, body, token=seller, key="patience")
    assert answer.status_code == 201, answer.text


async def test_a_dead_bank_stops_no_sale_and_pays_once_it_is_back(api, sample, outside, codes):
    owner = sample.summary.sign_in_customers[9].id
    token = await api.customer_token(owner)
    order = (await offer(api, token, next(codes))).json()
    outside.bank.kill()
    choice = {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": await api.own(owner)}
    accepted = await api.post(f"{SELL}/{order['id']}/accept", choice, token=token)
    assert accepted.status_code == 200
    await api.work()
    (waiting,) = (await api.get(f"/v1/payouts?order_id={order['id']}", token=token)).json()["items"]
    assert waiting["state"] in ("submitted", "unknown", "approved")
    outside.bank.process = outside.bank.start_again().process
    for minutes in range(1, 5):
        await api.work(ahead=timedelta(minutes=minutes))
        await asyncio.sleep(PAID_WITHIN_S)
    assert (await api.get(f"{SELL}/{order['id']}", token=token)).json()["state"] == "settled"
    (paid,) = (await api.get(f"/v1/payouts?order_id={order['id']}", token=token)).json()["items"]
    assert (paid["id"], paid["state"]) == (waiting["id"], "succeeded")


async def test_a_dead_database_is_said_to_be_away_and_missed_no_longer_when_it_is_back(tmp_path):
    tmp_path.chmod(0o755)
    server = EmbeddedPostgres(tmp_path)
    server.start()
    try:
        db = await asyncpg.connect(server.url)
        await migrate(db)
        await db.close()
        async with open_api(settings_for(server.url)) as own:
            assert (await own.get("/health")).status_code == 200
            server.stop()
            for path in ("/health", "/v1/places/stores", "/v1/me"):
                answer = await own.get(path, token="cs_somebody")
                assert (answer.status_code, problem_of(answer)) == (503, "platform-busy")
                assert int(answer.headers["retry-after"]) > 0
            server.start()
            assert (await own.get("/health")).status_code == 200
    finally:
        server.stop()
