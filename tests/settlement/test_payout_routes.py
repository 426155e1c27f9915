from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from factories.payouts import listen, opened, owed_orders, reread, secured, sellers, sent, told, transfer_jobs
from litestar import Litestar, Request, Response
from litestar.di import Provide

from quanhui import settlement
from quanhui.base import clock, http, signing
from quanhui.base.access import NOBODY, Actor, ActorKind, Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.errors import Problem
from quanhui.base.web import Call, problem_view
from quanhui.settlement import CUSTODIAN, Payout, SandboxInstitution, State, out_no_of
from quanhui.settlement.routes import CALLBACK_LIMIT_BYTES, handlers
from quanhui.settlement.views import NEXT_WORDS, STATE_WORDS

SECRET = b"a secret for tests, for callbacks only"
FINANCE = Actor(
    kind=ActorKind.STAFF,
    id="opr_1",
    grants={"settlement.read": Scope.ALL, "settlement.approve": Scope.ALL},
)
CLERK = Actor(
    kind=ActorKind.STAFF,
    id="opr_2",
    store_id="sto_1",
    grants={"settlement.read": Scope.STORE, "settlement.handover": Scope.STORE},
)


def customer(customer_id: str) -> Actor:
    return Actor(kind=ActorKind.CUSTOMER, id=customer_id, grants={"settlement.read": Scope.OWN})


class Web:
    """A client of the routes; whoever `actor` is makes the call."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.actor = NOBODY
        self.keys = 0

    async def get(self, path: str, actor: Actor, *, status: int = 200):
        self.actor = actor
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, actor: Actor, body: object = None, *, status: int = 200):
        self.actor, self.keys = actor, self.keys + 1
        headers = {"idempotency-key": f"key-{self.keys}"}
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def call_back(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        self.actor = NOBODY
        return await self.client.post("/callbacks/institution", content=body, headers=headers)


@pytest.fixture
async def web(pool: Pool) -> AsyncIterator[Web]:
    outside = http.open_client()
    institution = SandboxInstitution(
        outside, base_url="http://127.0.0.1:1", secret=SECRET, callback_secret=SECRET
    )

    async def call(request: Request) -> Call:
        return Call(
            actor=web.actor,
            now=clock.now(),
            pool=pool,
            target=f"{request.method} {request.url.path}",
            key=request.headers.get("idempotency-key"),
            body=await request.body(),
            device_id=None,
        )

    def refuse(_request: Request, problem: Problem) -> Response:
        return Response(problem_view(problem), status_code=problem.status)

    app = Litestar(
        handlers,
        dependencies={
            "call": Provide(call),
            "channels": Provide(lambda: {settlement.CUSTODIAN: institution}, sync_to_thread=False),
        },
        exception_handlers={Problem: refuse},
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        web = Web(client)
        yield web
    await outside.close()


async def two_payouts(pool: Pool, keyring, **given) -> list[Payout]:
    now = clock.now()
    async with transaction(pool) as db:
        payouts = await opened(db, await owed_orders(db, keyring, 2, now=now, **given), now=now)
        for payout in payouts:
            await sent(db, payout)
        return payouts


async def test_a_seller_sees_their_own_payouts_and_no_others(pool: Pool, keyring, web: Web):
    mine, other = await two_payouts(pool, keyring)
    me = customer(mine.seller_id)
    page = await web.get("/payouts", me)
    assert [item["id"] for item in page["items"]] == [mine.id]
    assert (await web.get(f"/payouts/{mine.id}", me))["payout"]["amount_fen"] == 92_00
    stranger = await web.get(f"/payouts/{other.id}", me, status=404)
    nothing = await web.get("/payouts/pot_nobody_knows", me, status=404)
    assert stranger == nothing
    assert (await web.get(f"/payouts?order_id={other.order_id}", me))["items"] == []


async def test_finance_pages_through_all_by_state(pool: Pool, keyring, web: Web):
    held = await two_payouts(pool, keyring, hold_reason="amount-order")
    await two_payouts(pool, keyring)
    first = await web.get("/payouts?state=held&limit=1", FINANCE)
    rest = await web.get(f"/payouts?state=held&limit=1&cursor={first['next_cursor']}", FINANCE)
    assert {page["items"][0]["id"] for page in (first, rest)} == {payout.id for payout in held}
    assert rest["next_cursor"] is None


async def test_a_desk_sees_the_payouts_of_its_store(pool: Pool, keyring, web: Web):
    (here, _) = await two_payouts(pool, keyring, store_id="sto_1")
    elsewhere, _ = await two_payouts(pool, keyring, store_id="sto_2")
    items = (await web.get("/payouts", CLERK))["items"]
    assert {item["store_id"] for item in items} == {"sto_1"}
    await web.get(f"/payouts/{here.id}", CLERK)
    await web.get(f"/payouts/{elsewhere.id}", CLERK, status=404)


async def test_a_seller_is_not_told_what_risk_control_looks_at(pool: Pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring, hold_reason="payee-shared")
    seen = await web.get(f"/payouts/{payout.id}", customer(payout.seller_id))
    assert seen["payout"]["reason"]["code"] == "under_review"
    assert "payee-shared" not in msgspec.json.encode(seen).decode()
    assert (await web.get(f"/payouts/{payout.id}", FINANCE))["payout"]["reason"]["code"] == "payee-shared"


async def test_the_timeline_tells_a_failure_in_both_languages(pool: Pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring)
    failed = settlement.TransferReport(
        out_no=out_no_of(payout.id, 1), state=settlement.TransferState.FAILED, reason="account_unusable"
    )
    async with transaction(pool) as db:
        await settlement.record_reports(db, [failed], channel=CUSTODIAN, now=clock.now())
    steps = (await web.get(f"/payouts/{payout.id}", customer(payout.seller_id)))["timeline"]
    assert [step["state"] for step in steps] == ["created", "submitted", "failed"]
    assert steps[-1]["zh"].endswith("收款账户无法入账")
    assert steps[-1]["en"].endswith("The account cannot receive money")


async def test_what_staff_noted_down_is_shown_to_staff_only(pool: Pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring)
    body, headers = callback(event(1, "transfer.succeeded", out_no_of(payout.id, 1), 1))
    await web.call_back(body, headers)
    seen = await web.post(f"/payouts/{payout.id}/clear-flag", FINANCE, {"note": "asked the bank"})
    assert seen["flag"] is None
    for actor, told_it in ((FINANCE, True), (customer(payout.seller_id), False)):
        steps = (await web.get(f"/payouts/{payout.id}", actor))["timeline"]
        assert ("asked the bank" in steps[-1]["en"]) is told_it


async def test_finance_approves_over_http_and_a_repeat_gets_the_same_answer(pool: Pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring, hold_reason="amount-order")
    approved = await web.post(f"/payouts/{payout.id}/approve", FINANCE, {})
    assert approved["state"] == "submitted"
    web.keys -= 1
    assert await web.post(f"/payouts/{payout.id}/approve", FINANCE, {}) == approved
    again = await web.post(f"/payouts/{payout.id}/approve", FINANCE, {}, status=409)
    assert again["type"].endswith("payout-moved")


async def test_approval_may_name_another_account_of_the_seller_only(pool: Pool, keyring, web: Web):
    now = clock.now()
    async with transaction(pool) as db:
        (seller, own), (_, strangers) = await sellers(db, keyring, 2, now=now)
        job = await secured(db, keyring, seller_id=seller, payee_id=None, now=now)
        (payout,) = await opened(db, [job], now=now)
    path = f"/payouts/{payout.id}/approve"
    await web.post(path, FINANCE, {}, status=409)
    await web.post(path, FINANCE, {"payee_id": strangers}, status=409)
    assert (await web.post(path, FINANCE, {"payee_id": own}))["payee_id"] == own


async def test_stored_value_is_shown_to_its_owner(pool: Pool, keyring, web: Web):
    now = clock.now()
    async with transaction(pool) as db:
        ((seller, _),) = await sellers(db, keyring, 1, now=now)
        job = await secured(db, keyring, seller_id=seller, payee_id=None, now=now, method="stored_value")
        await settlement.open_payouts(db, [job], now=now)
    balance = await web.get("/stored-value", customer(seller))
    assert balance == {"balance_fen": 92_00, "balance_yuan": "92.00"}
    assert (await web.get("/stored-value", customer("cus_new")))["balance_fen"] == 0


def callback(*events: dict) -> tuple[bytes, dict[str, str]]:
    body = msgspec.json.encode({"events": events})
    return body, signing.sign(SECRET, id="cb_1", now=clock.now(), body=body)


def event(number: int, kind: str, out_no: str, amount_fen: int = 92_00) -> dict:
    return {
        "id": f"ev_{number}",
        "type": kind,
        "out_no": out_no,
        "amount_fen": amount_fen,
        "at": clock.now(),
    }


async def test_a_signed_callback_is_taken_in_once_and_committed(pool: Pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring)
    body, headers = callback(event(1, "transfer.succeeded", out_no_of(payout.id, 1)))
    assert (await web.call_back(body, headers)).json() == {"new_events": 1}
    assert (await reread(pool, payout)).state is State.SUCCEEDED
    repeated = await web.call_back(body, headers)
    assert (repeated.status_code, repeated.json()) == (200, {"new_events": 0})


async def test_a_callback_with_another_amount_is_never_success(pool: Pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring)
    body, headers = callback(event(1, "transfer.succeeded", out_no_of(payout.id, 1), 92_01))
    assert (await web.call_back(body, headers)).status_code == 200
    after = await reread(pool, payout)
    assert (after.state, after.flag) == (State.SUBMITTED, settlement.Flag.AMOUNT_MISMATCH)


@pytest.mark.parametrize("wrong", ["unsigned", "altered", "stale", "nonsense"])
async def test_a_callback_that_cannot_be_believed_is_refused(pool: Pool, keyring, web: Web, wrong):
    payout, _ = await two_payouts(pool, keyring)
    body, headers = callback(event(1, "transfer.failed", out_no_of(payout.id, 1)))
    status = 401
    if wrong == "unsigned":
        headers = {}
    elif wrong == "altered":
        body = body.replace(b"failed", b"succeeded")
    elif wrong == "stale":
        headers = signing.sign(SECRET, id="cb_1", now=clock.now() - 2 * signing.MAX_AGE, body=body)
    else:
        body, status = b"[1, 2", 422
        headers = signing.sign(SECRET, id="cb_1", now=clock.now(), body=body)
    assert (await web.call_back(body, headers)).status_code == status
    assert (await reread(pool, payout)).state is State.SUBMITTED


async def test_a_huge_callback_is_refused_unread(web: Web):
    body = b"x" * (CALLBACK_LIMIT_BYTES + 1)
    headers = signing.sign(SECRET, id="cb_1", now=clock.now(), body=body)
    assert (await web.call_back(body, headers)).status_code == 413


async def test_payments_reported_by_callback_are_told_to_whoever_collects(pool: Pool, web: Web):
    async with transaction(pool) as db:
        await listen(db)
    body, headers = callback(event(1, "payment.succeeded", "pay1", 5))
    await web.call_back(body, headers)
    async with transaction(pool) as db:
        paid = {"out_no": "pay1", "state": "succeeded", "amount_fen": 5}
        assert await told(db, settlement.PAYMENT_REPORTED) == [paid]


def test_every_route_is_documented_and_says_what_it_needs():
    for handler in handlers:
        assert handler.opt["access"]
        assert handler.operation_id
        assert "\n\n" in (handler.fn.__doc__ or "")


async def test_finance_sees_the_channels_and_moves_their_switches(pool: Pool, web: Web):
    async def switch(way: str, actor: Actor = FINANCE, status: int = 200) -> dict:
        path = f"/channels/institution/{way}"
        return await web.post(path, actor, {"note": "bills differ"}, status=status)

    items = (await web.get("/channels", FINANCE))["items"]
    assert {each["name"]: each["standing"] for each in items}["institution"] == "running"
    stopped = await switch("stop")
    assert (stopped["standing"], stopped["stop_note"], stopped["stopped_by"]) == (
        "stopped",
        "bills differ",
        FINANCE.id,
    )
    assert stopped["reason"]["zh"] == "已由工作人员停用"
    assert (await switch("start"))["standing"] == "running"
    await web.post("/channels/nowhere/stop", FINANCE, {"note": "bills differ"}, status=404)


async def test_a_payee_is_told_that_no_channel_is_open(pool: Pool, keyring, web: Web):
    now = clock.now()
    async with transaction(pool) as db:
        (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
    await web.post("/channels/institution/stop", FINANCE, {"note": "bills differ"})
    channels = {CUSTODIAN: None}
    await settlement.send_transfers(pool, channels, keyring, transfer_jobs(payout), now=now)
    seen = await web.get(f"/payouts/{payout.id}", customer(payout.seller_id))
    assert seen["payout"]["reason"]["code"] == "channels_closed"
    assert [step["state"] for step in seen["timeline"]] == ["created", "submitted", "submitted"]
    assert seen["timeline"][-1]["zh"].endswith("恢复后自动付出，您无需操作")


def test_every_state_says_in_both_languages_what_it_means_and_what_to_do():
    for words in (STATE_WORDS, NEXT_WORDS):
        assert set(words) == set(State)
        assert all(each.zh and each.en and each.en.isascii() for each in words.values())


async def test_finance_cancels_over_http_and_the_payee_is_told_what_that_means(pool, keyring, web: Web):
    payout, _ = await two_payouts(pool, keyring, hold_reason="amount-order")
    path = f"/payouts/{payout.id}/cancel"
    cancelled = await web.post(path, FINANCE, {"note": "asked by phone"})
    assert cancelled["state"] == "cancelled"
    seen = (await web.get(f"/payouts/{payout.id}", customer(payout.seller_id)))["payout"]
    assert seen["next_zh"] == "款项仍属于您，可联系客服重新出款"
    await web.post(path, FINANCE, {"note": "once more"}, status=409)
