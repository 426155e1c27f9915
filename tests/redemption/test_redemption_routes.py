import pytest
from factories.edge import customer, open_edge, operator
from factories.tills import balance, issue, open_trade
from fakes.outside import http_client, start_sandbox

from quanhui.base import clock
from quanhui.base.access import Scope
from quanhui.base.db import Pool, transaction
from quanhui.catalogue import CatalogueCache, Connectors
from quanhui.catalogue.gateway import SandboxIssuerConnector
from quanhui.redemption.routes import handlers
from quanhui.redemption.rules import MOST_REFUSED_OPERATOR

TILL = ("redemption.redeem", "redemption.reverse", "redemption.read")
HOLDER = customer("cus_holder", "redemption.read")
ANOTHER = customer("cus_another", "redemption.read")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    party = start_sandbox("issuer", tmp_path_factory.mktemp("issuer"))
    yield party
    party.stop()


@pytest.fixture
async def trade(pool: Pool):
    async with transaction(pool) as db:
        return await open_trade(db, now=clock.now())


@pytest.fixture
async def edge(pool: Pool, keyring, sandbox, trade):
    sandbox.behave()
    async with http_client() as http:
        connectors = Connectors(
            lambda issuer_id: SandboxIssuerConnector(
                http, base_url=sandbox.url, issuer=issuer_id, secret=sandbox.secret, timeout_s=0.5
            )
        )
        async with open_edge(
            handlers,
            pool,
            now=clock.now(),
            keyring=keyring,
            catalogues=CatalogueCache(),
            connectors=connectors,
        ) as opened:
            yield opened


def clerk(till, number: int = 1):
    return operator(f"opr_{number}", *TILL, scope=Scope.STORE, store_id=till.store_id)


def merchant(till):
    return operator("opr_m", *TILL, scope=Scope.MERCHANT, merchant_id=till.merchant_id)


async def issued(pool: Pool, keyring, product, **given) -> tuple[str, str]:
    async with transaction(pool) as db:
        code, voucher = await issue(db, keyring, product, now=clock.now(), **given)
    return code, voucher.id


async def left(pool: Pool, voucher_id: str) -> int:
    async with pool.acquire() as db:
        return (await balance(db, voucher_id))[0]


async def test_a_clerk_looks_spends_and_takes_back(edge, pool, keyring, trade):
    code, voucher_id = await issued(pool, keyring, trade.card, holder_id="cus_holder")
    me = clerk(trade.till)
    worth = (await edge.post(me, "/redemptions/check", {"code": code})).json()
    assert (worth["available_fen"], worth["masked_code"]) == (100_00, f"••••{code[-4:]}")
    body = {"code": code, "amount_fen": 30_00, "till_reference": "POS1-1"}
    first = await edge.post(me, "/redemptions", body, key="once")
    again = await edge.post(me, "/redemptions", body, key="once")
    assert (first.status_code, again.json()) == (201, first.json())
    assert await left(pool, voucher_id) == 70_00
    twice = await edge.post(me, "/redemptions", body, key="a-new-key-for-a-retry")
    assert (twice.status_code, twice.json()["facts"]) == (409, {"redemption_id": first.json()["id"]})
    path = f"/redemptions/{first.json()['id']}"
    back = await edge.post(me, f"{path}/reversals", {"amount_fen": 10_00, "reason": "退货"})
    assert (back.status_code, back.json()["state"]) == (201, "done")
    shown = (await edge.get(me, path)).json()
    assert (shown["reversed_fen"], [each["amount_fen"] for each in shown["reversals"]]) == (10_00, [10_00])
    assert await left(pool, voucher_id) == 80_00


async def test_a_refusal_is_kept_though_its_request_is_rolled_back_and_the_limit_counts_it(
    edge, pool, keyring, trade
):
    code, _ = await issued(pool, keyring, trade.card)
    me = clerk(trade.till)
    for number in range(MOST_REFUSED_OPERATOR):
        path = "/redemptions/check" if number % 2 else "/redemptions"
        answer = await edge.post(me, path, {"code": f"RJ guess {number}"})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/voucher-not-usable")
        assert answer.json()["facts"] == {}
    for path in ("/redemptions/check", "/redemptions"):
        blocked = await edge.post(me, path, {"code": code})
        assert blocked.status_code == 429
        assert blocked.json()["facts"]["retry_after_s"] > 0
    assert (await edge.post(clerk(trade.till, 2), "/redemptions", {"code": code})).status_code == 201


async def test_a_failed_attempt_does_not_poison_its_key(edge, pool, keyring, trade):
    code, _ = await issued(pool, keyring, trade.card)
    me = clerk(trade.till)
    async with transaction(pool) as db:
        await db.execute("UPDATE vouchers.voucher SET integrity = 'frozen'")
    assert (await edge.post(me, "/redemptions", {"code": code}, key="k")).status_code == 409
    async with transaction(pool) as db:
        await db.execute("UPDATE vouchers.voucher SET integrity = 'clear'")
    assert (await edge.post(me, "/redemptions", {"code": code}, key="k")).status_code == 201


async def test_everyone_sees_redemptions_as_far_as_they_reach(edge, pool, keyring, trade):
    code, _ = await issued(pool, keyring, trade.card, holder_id="cus_holder")
    spent = (await edge.post(clerk(trade.till), "/redemptions", {"code": code, "amount_fen": 1})).json()
    everyone = operator("opr_all", "redemption.read")
    path = f"/redemptions/{spent['id']}"
    for actor in (HOLDER, clerk(trade.till), merchant(trade.till), everyone):
        assert (await edge.get(actor, path)).status_code == 200
        assert len((await edge.get(actor, "/redemptions")).json()["items"]) == 1
        assert (await edge.get(actor, "/redemptions", state="reversed")).json()["items"] == []
    for actor in (ANOTHER, clerk(trade.next_door, 2), merchant(trade.far_away)):
        assert (await edge.get(actor, path)).status_code == 404
        assert (await edge.get(actor, "/redemptions")).json()["items"] == []
    assert (await edge.get(HOLDER, path)).json()["operator_id"] is None
    assert (await edge.get(everyone, path)).json()["operator_id"] == "opr_1"
    other_store = {"store": trade.next_door.store_id}
    assert (await edge.get(everyone, "/redemptions", **other_store)).json()["items"] == []
    assert (await edge.get(clerk(trade.till), "/redemptions", **other_store)).status_code == 404


async def test_another_stores_redemption_is_not_reversed(edge, pool, keyring, trade):
    code, _ = await issued(pool, keyring, trade.card)
    spent = (await edge.post(clerk(trade.till), "/redemptions", {"code": code})).json()
    for actor in (clerk(trade.next_door, 2), merchant(trade.far_away)):
        answer = await edge.post(actor, f"/redemptions/{spent['id']}/reversals", {"reason": "x"})
        assert answer.status_code == 404


async def test_a_merchant_names_one_of_its_own_stores_and_a_clerk_has_but_one(edge, pool, keyring, trade):
    code, _ = await issued(pool, keyring, trade.card)
    boss = merchant(trade.till)
    assert (await edge.post(boss, "/redemptions", {"code": code})).status_code == 422
    body = {"code": code, "amount_fen": 1, "store_id": trade.next_door.store_id}
    spent = await edge.post(boss, "/redemptions", body)
    assert spent.json()["store_id"] == trade.next_door.store_id
    assert (await edge.post(merchant(trade.far_away), "/redemptions", body)).status_code == 404
    assert (await edge.post(clerk(trade.till), "/redemptions", body)).status_code == 404


async def foreign(pool: Pool, keyring, trade, sandbox, *, at_issuer_fen: int = 100_00) -> tuple[str, str]:
    code, voucher_id = await issued(pool, keyring, trade.foreign, own_issue=False)
    seed = {
        "issuer": trade.foreign.issuer_id,
        "prefix": "KD",
        "code": code,
        "face_fen": 100_00,
        "balance_fen": at_issuer_fen,
        "expires_at": "2099-01-01T00:00:00Z",
    }
    sandbox.call("/control/vouchers", [seed])
    return code, voucher_id


async def test_an_outside_voucher_is_drawn_at_its_issuer_within_the_request(
    edge, pool, keyring, trade, sandbox
):
    code, voucher_id = await foreign(pool, keyring, trade, sandbox)
    body = {"code": code, "amount_fen": 40_00}
    first = await edge.post(clerk(trade.till), "/redemptions", body, key="once")
    assert (first.status_code, first.json()["state"]) == (201, "captured")
    again = await edge.post(clerk(trade.till), "/redemptions", body, key="once")
    assert again.json() == first.json()
    assert await left(pool, voucher_id) == 60_00


async def test_when_the_issuer_is_silent_the_till_repeats_with_the_same_key_and_draws_once(
    edge, pool, keyring, trade, sandbox
):
    code, voucher_id = await foreign(pool, keyring, trade, sandbox)
    sandbox.fault("lost_reply", next_n=1, delay_s=1)
    body = {"code": code, "amount_fen": 40_00}
    waiting = await edge.post(clerk(trade.till), "/redemptions", body, key="once")
    assert (waiting.status_code, waiting.json()["awaits_issuer"]) == (202, True)
    done = await edge.post(clerk(trade.till), "/redemptions", body, key="once")
    assert (done.status_code, done.json()["id"], done.json()["state"]) == (
        201,
        waiting.json()["id"],
        "captured",
    )
    assert await left(pool, voucher_id) == 60_00
    (row,) = sandbox.call("/control/books", {"codes": [code]})
    assert row["balance_fen"] == 60_00


async def test_an_issuers_refusal_looks_like_any_other(edge, pool, keyring, trade, sandbox):
    code, voucher_id = await foreign(pool, keyring, trade, sandbox, at_issuer_fen=0)
    body = {"code": code}
    refused = await edge.post(clerk(trade.till), "/redemptions", body, key="once")
    unknown = await edge.post(clerk(trade.till), "/redemptions", {"code": "RJ nobody's"})
    again = await edge.post(clerk(trade.till), "/redemptions", body, key="once")
    assert refused.status_code == 409
    assert refused.json() == unknown.json() == again.json()
    assert await left(pool, voucher_id) == 100_00
