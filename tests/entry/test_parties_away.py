"""Parties that are away: an issuer, the bank, our own database. Nothing is lost, nothing happens twice."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from factories.api import SELL, count_orders, offer, open_api, problem_of, settings_for

from quanhui.catalogue import LegalClass
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres

PAID_WITHIN_S = 0.1

pytestmark = pytest.mark.usefixtures("_nothing_is_given_away")


async def test_a_dead_issuer_makes_no_order_and_the_same_key_works_once_it_is_back(
    api, sample, seller, outside
):
    told = next(
        each for each in sample.summary.outside_codes if each.legal_class is LegalClass.SINGLE_PURPOSE_BEARER
    )
    body = {"items": [{"code": told.code}]}
    outside.issuer.kill()
    before = await count_orders(api)
    answer = await api.post(SELL, body, token=seller, key="patience")
    assert (answer.status_code, problem_of(answer)) == (503, "outside-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert await count_orders(api) == before
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
