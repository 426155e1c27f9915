import pytest
from factories.edge import customer, open_edge, operator
from factories.market import bought, listen, on_market, pay
from factories.tills import open_trade

from quanhui import redistribution as market
from quanhui.base.access import Access, Scope
from quanhui.base.db import Pool, transaction
from quanhui.catalogue import CatalogueCache
from quanhui.redistribution.routes import handlers

BUYER = customer("cus_buyer", "market.buy", "market.reveal")
STRANGER = customer("cus_stranger", "market.buy", "market.reveal")
READER = customer("cus_buyer", "market.read", scope=Scope.ALL)
COMPANY = customer("cus_clerk", "market.buy", "market.reveal", scope=Scope.ENTERPRISE, enterprise_id="ent_1")
OPERATIONS = operator("opr_1", "market.list", "market.read")


@pytest.fixture
async def trade(pool: Pool, now):
    async with transaction(pool) as db:
        await listen(db)
        return await open_trade(db, now=now)


@pytest.fixture
async def edge(pool: Pool, keyring, now, trade):
    async with open_edge(handlers, pool, now=now, keyring=keyring, catalogues=CatalogueCache()) as opened:
        yield opened


async def for_sale(pool: Pool, keyring, count: int = 1, *, now, **given):
    async with transaction(pool) as db:
        return await on_market(db, keyring, count, now=now, **given)


async def paid(pool: Pool, purchase_id: str, *, now):
    async with transaction(pool) as db:
        await pay(db, *await market.find_purchases(db, [purchase_id]), now=now)


def test_every_route_says_who_may_call_it():
    reach = {(h.opt["access"].permission, h.opt["access"].scopes) for h in handlers}
    own = frozenset({Scope.OWN, Scope.ENTERPRISE})
    assert reach == {
        ("market.read", frozenset({Scope.ALL})),
        ("market.buy", own),
        ("market.reveal", own),
        ("market.list", frozenset({Scope.ALL})),
    }
    assert all(isinstance(h.opt["access"], Access) for h in handlers)


async def test_the_market_shows_no_cost_and_of_a_code_only_its_end(edge, pool, keyring, now, trade):
    (listing,) = await for_sale(pool, keyring, now=now, product_id=trade.card.id)
    (offer,) = (await edge.get(READER, "/market/listings")).json()["items"]
    assert offer["masked_code"].startswith("••••")
    assert len(offer["masked_code"]) == 8
    assert not {"cost_fen", "voucher_id", "order_id"} & set(offer)
    assert (await edge.get(READER, f"/market/listings/{listing.id}")).json() == offer


@pytest.mark.parametrize("sort", ["newest", "price"])
async def test_pages_follow_each_other_without_a_gap_or_a_repeat(edge, pool, keyring, now, trade, sort):
    for price_fen in (95_00, 90_00, 95_00):
        await for_sale(pool, keyring, 3, now=now, price_fen=price_fen, product_id=trade.card.id)
    seen, cursor = [], None
    for _ in range(5):
        params = {"sort": sort, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await edge.get(READER, "/market/listings", **params)).json()
        seen += [(item["price_fen"], item["id"]) for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert len(set(seen)) == 9
    wanted = sorted(seen) if sort == "price" else sorted(seen, key=lambda item: item[1], reverse=True)
    assert seen == wanted


async def test_a_cursor_that_was_not_given_by_this_order_is_the_callers_error(edge):
    for cursor in ("lst_01kaqtj3v8f6rr3y1n5w9e2mzc", "-1.lst_1", "1" * 13 + ".lst_1", "²." + "x"):
        answer = await edge.get(READER, "/market/listings", sort="price", cursor=cursor)
        assert answer.status_code == 422


async def test_filters_narrow_the_market(edge, pool, keyring, now, trade):
    (card,) = await for_sale(pool, keyring, now=now, price_fen=90_00, product_id=trade.card.id)
    (foreign,) = await for_sale(pool, keyring, now=now, price_fen=95_00, product_id=trade.foreign.id)

    async def found(**filters) -> set[str]:
        answer = await edge.get(READER, "/market/listings", **filters)
        return {item["id"] for item in answer.json()["items"]}

    assert await found() == {card.id, foreign.id}
    assert await found(product=trade.card.id) == {card.id}
    assert await found(region="110000") == {foreign.id}
    assert await found(region="510107") == await found(region="510100") == {card.id, foreign.id}
    assert await found(min_fen=90_01) == {foreign.id}
    assert await found(max_fen=90_00) == {card.id}
    assert await found(category="liquor") == set()
    assert await found(text="rongjiafu") == {card.id, foreign.id}
    assert await found(text="nothing like it") == set()


async def test_a_purchase_from_reserving_to_the_codes(edge, pool, keyring, now, trade):
    listings = await for_sale(pool, keyring, 2, now=now, product_id=trade.card.id)
    body = {"listing_ids": [each.id for each in listings]}
    first = await edge.post(BUYER, "/market/purchases", body, key="one")
    again = await edge.post(BUYER, "/market/purchases", body, key="one")
    assert (first.status_code, again.json()) == (201, first.json())
    purchase = first.json()
    assert (purchase["total_fen"], purchase["state"]) == (190_00, "pending_payment")
    taken = await edge.post(STRANGER, "/market/purchases", body)
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/listing-taken")
    path = f"/market/purchases/{purchase['id']}"
    assert (await edge.post(BUYER, f"{path}/reveal", {})).status_code == 409
    await paid(pool, purchase["id"], now=now)
    codes = (await edge.post(BUYER, f"{path}/reveal", {}, key="look")).json()
    assert {each["listing_id"] for each in codes} == set(body["listing_ids"])
    assert (await edge.post(BUYER, f"{path}/reveal", {}, key="look")).json() == codes
    async with pool.acquire() as db:
        kept = await db.fetch("SELECT body FROM base.answer WHERE body IS NOT NULL")
    assert not [row for row in kept for each in codes if each["code"].encode() in row["body"]]
    (listed,) = (await edge.get(BUYER, "/market/purchases")).json()["items"]
    assert {item["state"] for item in listed["items"]} == {"revealed"}
    assert listed == (await edge.get(BUYER, path)).json()


async def test_a_strangers_purchase_is_not_found_whatever_one_tries(edge, pool, keyring, now, trade):
    (listing,) = await for_sale(pool, keyring, now=now, product_id=trade.card.id)
    bought_it = await edge.post(BUYER, "/market/purchases", {"listing_ids": [listing.id]})
    for purchase_id in (bought_it.json()["id"], "pur_01kaqtj3v8f6rr3y1n5w9e2mzc"):
        path = f"/market/purchases/{purchase_id}"
        complaint = {"listing_ids": [listing.id], "reason": "x"}
        answers = [
            await edge.get(STRANGER, path),
            await edge.post(STRANGER, f"{path}/cancel"),
            await edge.post(STRANGER, f"{path}/reveal", {}),
            await edge.post(STRANGER, f"{path}/disputes", complaint),
        ]
        assert [answer.status_code for answer in answers] == [404] * 4
        assert len({answer.text for answer in answers}) == 1
    assert (await edge.get(STRANGER, "/market/purchases")).json()["items"] == []


async def test_who_acts_for_an_enterprise_buys_for_it(edge, pool, keyring, now, trade):
    (listing,) = await for_sale(pool, keyring, now=now, product_id=trade.card.id)
    purchase = (await edge.post(COMPANY, "/market/purchases", {"listing_ids": [listing.id]})).json()
    async with pool.acquire() as db:
        (found,) = await market.find_purchases(db, [purchase["id"]])
    assert found.buyer_id == "ent_1"
    assert len((await edge.get(COMPANY, "/market/purchases")).json()["items"]) == 1


async def test_cancelling_says_that_it_is_closing(edge, pool, keyring, now, trade):
    (listing,) = await for_sale(pool, keyring, now=now, product_id=trade.card.id)
    purchase = (await edge.post(BUYER, "/market/purchases", {"listing_ids": [listing.id]})).json()
    closing = await edge.post(BUYER, f"/market/purchases/{purchase['id']}/cancel")
    assert (closing.json()["state"], closing.json()["closing"]) == ("pending_payment", True)


async def test_operations_price_stock_take_it_down_and_decide_complaints(edge, pool, keyring, now, trade):
    async with transaction(pool) as db:
        delivery = await bought(db, keyring, now=now, product_id=trade.card.id)
        await market.take_into_stock(db, [delivery], now=now)
    (draft,) = (await edge.get(OPERATIONS, "/market/stock", state="draft")).json()["items"]
    assert draft["cost_fen"] == 88_00
    prices = {"prices": [{"listing_id": draft["id"], "price_fen": 94_00}]}
    (listed,) = (await edge.post(OPERATIONS, "/market/listings", prices)).json()
    assert listed["state"] == "listed"
    down = await edge.post(OPERATIONS, f"/market/listings/{draft['id']}/delist")
    assert down.json()["state"] == "delisted"
    assert (await edge.get(READER, f"/market/listings/{draft['id']}")).status_code == 404
    assert (await edge.post(OPERATIONS, "/market/listings", prices)).status_code == 201
    purchase = (await edge.post(BUYER, "/market/purchases", {"listing_ids": [draft["id"]]})).json()
    await paid(pool, purchase["id"], now=now)
    complaint = {"listing_ids": [draft["id"]], "reason": "余额不足"}
    assert (
        await edge.post(BUYER, f"/market/purchases/{purchase['id']}/disputes", complaint)
    ).status_code == 201
    (open_one,) = (await edge.get(OPERATIONS, "/market/disputes")).json()["items"]
    assert (open_one["reason"], open_one["price_fen"]) == ("余额不足", 94_00)
    decision = {"decision": "refunded", "note": "已核实"}
    decided = await edge.post(OPERATIONS, f"/market/disputes/{draft['id']}/decision", decision)
    assert decided.json()["state"] == "refunded"
    assert (await edge.get(OPERATIONS, "/market/disputes")).json()["items"] == []


async def test_a_customer_neither_lists_nor_sees_the_stock(edge):
    assert (await edge.get(BUYER, "/market/stock")).status_code == 403
    body = {"prices": [{"listing_id": "lst_1", "price_fen": 1}]}
    assert (await edge.post(BUYER, "/market/listings", body)).status_code == 403


async def test_no_command_takes_anything_but_money_for_a_voucher(edge, pool, keyring, now, trade):
    (listing,) = await for_sale(pool, keyring, now=now, product_id=trade.card.id)
    body = {"listing_ids": [listing.id], "pay_with": "stored_value"}
    assert (await edge.post(BUYER, "/market/purchases", body)).status_code == 400
