"""The buyback over HTTP: what sellers are told, and what is kept from them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from factories.deals import CARD, FEAST, REKEYED, Deal, fresh_code, job_for, told
from litestar import Litestar, Request, Response
from litestar.di import Provide

from quanhui import buyback, vouchers
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.errors import Problem
from quanhui.base.web import Call, problem_view
from quanhui.buyback import tasks
from quanhui.buyback.routes import handlers
from quanhui.vouchers import Integrity, Spend

OWN = dict.fromkeys(("buyback.sell", "buyback.appeal", "buyback.read"), Scope.OWN)
REVIEWER = Actor(
    kind=ActorKind.STAFF, id="opr_1", grants={"buyback.review": Scope.ALL, "buyback.read": Scope.ALL}
)
CLERK = Actor(kind=ActorKind.STAFF, id="opr_2", store_id="sto_1", grants={"buyback.read": Scope.STORE})
ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}")


def customer(customer_id: str) -> Actor:
    return Actor(kind=ActorKind.CUSTOMER, id=customer_id, grants=OWN)


SELLER = customer("cus_1")


class Web:
    """A client of the routes; whoever `actor` is makes the call."""

    def __init__(self, client: httpx.AsyncClient, deal: Deal) -> None:
        self.client = client
        self.deal = deal
        self.actor = SELLER
        self.keys = 0

    async def get(self, path: str, actor: Actor = SELLER, *, status: int = 200):
        self.actor = actor
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body=None, actor: Actor = SELLER, *, status: int = 200, key=None):
        self.actor, self.keys = actor, self.keys + 1
        headers = {"idempotency-key": key or f"key-{self.keys}"}
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def sell(self, *codes: str, actor: Actor = SELLER, status: int = 201, **given):
        items = [{"code": code} for code in codes]
        return await self.post("/buyback/orders", {"items": items, **given}, actor, status=status)


@pytest.fixture
async def web(pool: Pool, open_deal: Deal) -> AsyncIterator[Web]:
    async def call(request: Request) -> Call:
        return Call(
            actor=web.actor,
            now=open_deal.now,
            pool=pool,
            target=f"{request.method} {request.url.path}",
            key=request.headers.get("idempotency-key"),
            body=await request.body(),
            device_id=None,
        )

    def refuse(_request: Request, problem: Problem) -> Response:
        return Response(problem_view(problem), status_code=problem.status)

    counter = buyback.Counter()
    app = Litestar(
        handlers,
        dependencies={
            "call": Provide(call),
            "terms": Provide(lambda: open_deal.source, sync_to_thread=False),
            "connectors": Provide(lambda: open_deal.connectors, sync_to_thread=False),
            "counter": Provide(lambda: counter, sync_to_thread=False),
        },
        exception_handlers={Problem: refuse},
        openapi_config=None,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        web = Web(client, open_deal)
        yield web


def without_ids(answer: dict, *codes: str) -> str:
    """What was answered, byte for byte, but for ids and the end of the code, which the caller typed."""
    text = ID.sub("id", json.dumps(answer, sort_keys=True, ensure_ascii=False))
    for code in codes:
        text = text.replace(f"••••{code[-4:]}", "••••")
    return text


async def secret_cases(pool: Pool, deal: Deal) -> dict[str, str]:
    """Codes that are refused for reasons that only we know."""
    issuer = deal.books["iss_rekeys"]
    async with transaction(pool) as db:
        frozen, suspect, claimed, authorised = [await deal.issue(db, FEAST) for _ in range(4)]
        dead = await deal.issue(db)
        foreign = await deal.issue(db, FEAST, holder_id="cus_somebody")
        for code, integrity in ((frozen, Integrity.FROZEN), (suspect, Integrity.SUSPECT)):
            await vouchers.set_integrity(db, [(await deal.voucher(db, code)).id], integrity)
        await deal.accept(db, await deal.sell(db, dead, seller="cus_other"))
        order = await deal.sell(db, claimed, deal.issue_outside(), seller="cus_other")
        await deal.accept(db, order)
        await vouchers.authorise(db, [Spend((await deal.voucher(db, authorised)).id, 1)], now=deal.now)
    held = deal.issue_outside()
    issuer.locks[held] = "somebody"
    return {
        "unknown": fresh_code(CARD),
        "unknown to its issuer": fresh_code(REKEYED),
        "frozen": frozen,
        "suspect": suspect,
        "claimed": claimed,
        "being spent": authorised,
        "dead code": dead,
        "foreign holder": foreign,
        "locked elsewhere": held,
    }


async def test_refusals_for_secret_reasons_look_alike_to_the_last_byte(web: Web, pool: Pool):
    cases = await secret_cases(pool, web.deal)
    refused, orders, among = {}, {}, {}
    for name, code in cases.items():
        problem = await web.sell(code, status=409)
        refused[name] = without_ids(problem, code)
        orders[name] = without_ids(await web.get(f"/buyback/orders/{problem['facts']['order_id']}"), code)
        async with transaction(pool) as db:
            good = await web.deal.issue(db)
        among[name] = without_ids((await web.sell(good, code))["lines"][1], code)
    for answers in (refused, orders, among):
        assert set(answers.values()) == {answers["unknown"]}
    assert "voucher-not-accepted" in refused["unknown"]


async def test_the_reason_that_the_seller_is_not_told_is_kept(web: Web, pool: Pool):
    cases = await secret_cases(pool, web.deal)
    await web.sell(cases["frozen"], status=409)
    refusal, tree = await pool.fetchrow(
        "SELECT l.refusal, d.tree FROM buyback.line l JOIN buyback.buyback_order o ON o.id = l.order_id"
        " JOIN risk.decision d ON d.id = o.decision_id WHERE o.seller_id = 'cus_1'"
    )
    assert refusal == "not_clear"
    assert ("not_clear", 1) in {(check["rule"], check["line"]) for check in tree}


async def test_what_anyone_can_tell_is_told(web: Web):
    problem = await web.sell("rubbish", status=409)
    assert problem["type"] == "/problems/code-malformed"
    mixed = await web.sell("rubbish", fresh_code(CARD), status=409)
    assert mixed["type"] == "/problems/voucher-not-accepted"
    assert [line["problem"] for line in mixed["facts"]["lines"]] == ["code-malformed", "voucher-not-accepted"]


async def test_who_was_turned_down_for_guessing_learns_no_more(web: Web, pool: Pool):
    """After too many refusals a good code and a guess get the same answer, in every view."""
    async with transaction(pool) as db:
        good = await web.deal.issue(db)
    await web.sell(*(fresh_code(CARD) for _ in range(20)), status=409)
    guess = fresh_code(CARD)
    problem = await web.sell(guess, good, status=409)
    assert [line["problem"] for line in problem["facts"]["lines"]] == ["voucher-not-accepted"] * 2
    order_id = problem["facts"]["order_id"]
    first, second = (await web.get(f"/buyback/orders/{order_id}"))["lines"]
    assert without_ids({**first, "number": 0}, guess) == without_ids({**second, "number": 0}, good)
    alone = await web.sell(good, status=409)
    assert without_ids(alone, good) == without_ids(await web.sell(guess, status=409), guess)
    stranger = await web.sell(good, actor=customer("cus_2"))
    assert stranger["state"] == "quoted"


async def test_a_rejection_can_be_appealed_and_a_person_gives_a_fresh_quote(web: Web, pool: Pool):
    async with transaction(pool) as db:
        good = await web.deal.issue(db)
    await web.sell(*(fresh_code(CARD) for _ in range(20)), status=409)
    rejected = await web.sell(good, fresh_code(CARD), status=409)
    order = f"/buyback/orders/{rejected['facts']['order_id']}"
    assert (await web.get(order))["may_appeal"]
    appealed = await web.post(f"{order}/appeal", {"words": "是公司年会发的"})
    assert (appealed["state"], appealed["may_appeal"]) == ("appealed", False)
    approved = await web.post(f"{order}/review", {"approve": True, "reason": "核对无误"}, REVIEWER)
    assert approved["state"] == "quoted"
    assert [line["gross_fen"] > 0 for line in approved["lines"]] == [True, False]
    body = {"quote_id": approved["quote"]["id"], "method": "stored_value"}
    assert (await web.post(f"{order}/accept", body))["state"] == "settling"
    (fact,) = await told(pool, buyback.SECURED)
    assert fact["net_fen"] == approved["quote"]["net_fen"]


async def test_an_appeal_that_is_turned_down_says_so_and_may_be_made_again(web: Web):
    rejected = await web.sell(fresh_code(CARD), status=409)
    order = f"/buyback/orders/{rejected['facts']['order_id']}"
    await web.post(f"{order}/appeal", {"words": "请再看"})
    decided = await web.post(f"{order}/review", {"approve": False, "reason": "查无此券"}, REVIEWER)
    assert (decided["state"], decided["may_appeal"], decided["quote"]) == ("rejected", True, None)
    await web.post(f"{order}/review", {"approve": True, "reason": "再来"}, REVIEWER, status=409)


async def test_an_order_under_review_gets_a_fresh_quote_when_a_person_approves(web: Web, pool: Pool):
    async with transaction(pool) as db:
        code = await web.deal.issue(db)
        await db.execute("UPDATE risk.rule SET threshold = 0 WHERE code = 'offers-account'")
    waiting = await web.sell(code)
    assert (waiting["state"], waiting["quote"]) == ("manual_review", None)
    order = f"/buyback/orders/{waiting['id']}"
    await web.post(f"{order}/accept", {"quote_id": "quo_1", "method": "stored_value"}, status=409)
    approved = await web.post(f"{order}/review", {"approve": True, "reason": "已核实"}, REVIEWER)
    quote = approved["quote"]
    assert (approved["state"], quote["state"]) == ("quoted", "issued")
    assert quote["gross_fen"] == approved["lines"][0]["gross_fen"] > 0
    assert await pool.fetchval("SELECT reason FROM buyback.buyback_order") == "opr_1: 已核实"


async def test_declining_leaves_the_voucher_with_the_seller(web: Web, pool: Pool):
    async with transaction(pool) as db:
        code = await web.deal.issue(db)
    order = await web.sell(code)
    declined = await web.post(f"/buyback/orders/{order['id']}/decline")
    assert (declined["state"], (await web.get(f"/buyback/orders/{order['id']}"))["quote"]["state"]) == (
        "declined",
        "declined",
    )
    await web.post(f"/buyback/orders/{order['id']}/decline", status=409)
    body = {"quote_id": order["quote"]["id"], "method": "stored_value"}
    await web.post(f"/buyback/orders/{order['id']}/accept", body, status=409)
    assert (await web.sell(code))["state"] == "quoted"


async def test_the_same_key_gets_the_same_answer_and_another_body_is_refused(web: Web, pool: Pool):
    async with transaction(pool) as db:
        code, other = await web.deal.issue(db), await web.deal.issue(db)
    body = {"items": [{"code": code}]}
    first = await web.post("/buyback/orders", body, status=201, key="k")
    assert await web.post("/buyback/orders", body, status=201, key="k") == first
    await web.post("/buyback/orders", {"items": [{"code": other}]}, status=409, key="k")
    refused = await web.post("/buyback/orders", {"items": [{"code": "rubbish"}]}, status=409, key="r")
    again = await web.post("/buyback/orders", {"items": [{"code": "rubbish"}]}, status=409, key="r")
    assert again == refused
    assert await pool.fetchval("SELECT count(*) FROM buyback.buyback_order") == 2


async def test_more_than_a_hundred_codes_or_none_or_unknown_fields_are_malformed(web: Web):
    for body in (
        {"items": [{"code": "RJ2345678"}] * 101},
        {"items": []},
        {"items": [{"code": "RJ2345678", "price": 1}]},
        {"items": [{"code": "RJ2"}]},
    ):
        await web.post("/buyback/orders", body, status=400)


async def test_an_order_of_another_does_not_exist(web: Web, pool: Pool):
    async with transaction(pool) as db:
        order = await web.deal.sell(db, await web.deal.issue(db), store_id="sto_1")
    path = f"/buyback/orders/{order.id}"
    thief, nowhere = customer("cus_2"), "/buyback/orders/ord_0"
    assert await web.get(path, thief, status=404) == await web.get(nowhere, status=404)
    body = {"quote_id": order.quote.id, "method": "stored_value"}
    for verb, given in (("accept", body), ("decline", None), ("appeal", {"words": "?"})):
        await web.post(f"{path}/{verb}", given, thief, status=404)
    await web.get(f"{path}/receipt", thief, status=404)
    assert (await web.get(path, CLERK))["id"] == order.id
    elsewhere = msgspec.structs.replace(CLERK, store_id="sto_2")
    await web.get(path, elsewhere, status=404)
    assert (await web.get("/buyback/orders", elsewhere))["items"] == []
    assert [each["id"] for each in (await web.get("/buyback/orders", CLERK))["items"]] == [order.id]


async def test_orders_are_listed_newest_first_page_by_page(web: Web, pool: Pool):
    async with transaction(pool) as db:
        orders = [await web.deal.sell(db, await web.deal.issue(db)) for _ in range(3)]
        await web.deal.sell(db, await web.deal.issue(db), seller="cus_2")
        await web.deal.accept(db, orders[0])
    page = await web.get("/buyback/orders?limit=2")
    assert [each["id"] for each in page["items"]] == [orders[2].id, orders[1].id]
    rest = await web.get(f"/buyback/orders?limit=2&cursor={page['next_cursor']}")
    assert ([each["id"] for each in rest["items"]], rest["next_cursor"]) == ([orders[0].id], None)
    settling = await web.get("/buyback/orders?state=settling")
    assert [each["id"] for each in settling["items"]] == [orders[0].id]


async def test_no_table_holds_a_code_in_plain_after_all_of_it(web: Web, pool: Pool):
    """Accepted, refused, malformed, appealed, locked, re-keyed: nothing but the vault ever holds a code."""
    deal = web.deal
    cases = await secret_cases(pool, deal)
    async with transaction(pool) as db:
        own = await deal.issue(db)
    outside = deal.issue_outside()
    slip = own[:-1] + ("2" if own[-1] != "2" else "3")
    typed = " ".join(own[i : i + 4] for i in range(0, len(own), 4))
    order = await web.sell(typed, outside, slip, *cases.values())
    body = {"quote_id": order["quote"]["id"], "method": "stored_value"}
    await web.post(f"/buyback/orders/{order['id']}/accept", body)
    async with transaction(pool) as db:
        (accepted,) = await buyback.find_orders(db, [order["id"]])
    await tasks.lock_at_issuers(pool, deal.source, deal.connectors, job_for(accepted), now=deal.now)
    await tasks.rekey_at_issuers(pool, deal.source, deal.connectors, job_for(accepted), now=deal.now)
    assert (await web.get(f"/buyback/orders/{order['id']}"))["state"] == "settling"
    async with transaction(pool) as db:
        ids = [line.voucher_id for line in accepted.bought_lines]
        new = (await vouchers.open_codes(db, deal.keyring, ids)).values()
        everything = await dump(db)
    assert len(everything) > 10_000
    codes = [own, typed, outside, slip, *new, *cases.values()]
    found = [code for code in codes if code in everything or code.encode().hex() in everything]
    assert found == []


async def dump(db) -> str:
    """Every row of every table as text; binary columns stand in hexadecimal."""
    tables = await db.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    rows = [await db.fetch(f"SELECT t::text AS line FROM {table['name']} t") for table in tables]
    return "\n".join(row["line"] for found in rows for row in found)


async def test_many_sellers_at_once_each_get_their_own_answer_and_a_voucher_is_bought_once(web, pool: Pool):
    """Ten vouchers offered by two sellers each, all accepted at the same moment, one of them twice."""
    async with transaction(pool) as db:
        codes = [await web.deal.issue(db) for _ in range(10)]
    orders = [await web.sell(code) for code in codes for _ in range(2)]
    body = [{"quote_id": order["quote"]["id"], "method": "stored_value"} for order in orders]
    paths = [f"/buyback/orders/{order['id']}/accept" for order in orders]

    async def accept(number: int, key: str):
        return await web.client.post(paths[number], json=body[number], headers={"idempotency-key": key})

    answers = await asyncio.gather(*(accept(n, f"take-{n}") for n in range(20)), accept(0, "take-again"))
    won = [answer.json()["id"] for answer in answers if answer.status_code == 200]
    assert sorted({answer.status_code for answer in answers}) == [200, 409]
    assert len(won) == len(set(won)) == 10
    taken = await pool.fetch("SELECT voucher_id, order_id FROM vouchers.claim WHERE released_at IS NULL")
    assert sorted(row["order_id"] for row in taken) == sorted(won)
    assert len({row["voucher_id"] for row in taken}) == 10
    again = await asyncio.gather(*(accept(n, f"take-{n}") for n in range(20)))
    assert [each.content for each in again if each.status_code == 200] == [
        each.content for each in answers[:20] if each.status_code == 200
    ]
