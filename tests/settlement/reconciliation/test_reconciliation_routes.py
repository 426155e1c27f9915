"""Reconciliation as finance and auditors meet it over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from factories.api import Api, open_api, problem_of, settings_for
from factories.bills import CHANNEL, Channel, line, paid

from quanhui import settlement
from quanhui.base import clock
from quanhui.base.keyring import Keyring

CASES = "/v1/reconciliation/cases"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with open_api(settings_for(database_url)) as opened:
        yield opened


async def one_fen_wrong(api: Api, keyring: Keyring) -> None:
    now = clock.now() - timedelta(days=2)
    (payout,) = await paid(api.desk.pool, keyring, 1, now=now)
    channel, day = Channel(), clock.local_day(now)
    channel.bills[day] = [line(payout, 1, at=now, more_fen=1)]
    await settlement.run_day(api.desk.pool, CHANNEL, channel, day, now=clock.now())


async def test_a_case_is_listed_proven_exported_and_closed_by_two_people(api, keyring):
    await one_fen_wrong(api, keyring)
    maker, checker = [await api.staff_token(await api.hire("finance")) for _ in range(2)]
    auditor = await api.staff_token(await api.hire("auditor"))
    (case,) = (await api.get(f"{CASES}?state=open&class=amount_differs", token=auditor)).json()["items"]
    assert (case["delta_fen"], case["suspended"], case["class_zh"]) == (-1, True, "金额不符")
    assert (await api.get(f"{CASES}?older_than_days=1", token=auditor)).json()["items"] == []
    proof = (await api.get(f"{CASES}/{case['id']}", token=auditor)).json()
    assert [each["amount_fen"] for each in proof["bill"]] == [9201]
    assert [each["state"] for each in proof["records"]] == ["succeeded"]
    assert proof["payout"]["timeline"][-1]["state"] == "succeeded"
    assert {each["event"] for each in proof["postings"]} >= {"payout_confirmed", "difference_found"}
    table = (await api.get(f"{CASES}/export", token=auditor)).text.splitlines()
    assert len(table) == 2
    assert case["id"] in table[1]
    (day,) = (await api.get("/v1/reconciliation/days", token=auditor)).json()
    assert (day["lines"], day["matched"], day["open_cases"]) == (1, 0, 1)
    proposal = {"outcome": "written_off", "note": "尾差一分"}
    refused = await api.post(f"{CASES}/{case['id']}/propose", proposal, token=auditor)
    assert problem_of(refused) == "forbidden"
    assert (await api.post(f"{CASES}/{case['id']}/propose", proposal, token=maker)).status_code == 200
    own = await api.post(f"{CASES}/{case['id']}/approve", {"note": "同意核销"}, token=maker)
    assert problem_of(own) == "second-person-needed"
    done = await api.post(f"{CASES}/{case['id']}/approve", {"note": "同意核销"}, token=checker)
    assert done.json()["state"] == "written_off"


async def test_a_day_is_run_only_when_it_is_over_and_its_channel_answers(api):
    token = await api.staff_token(await api.hire("finance"))
    today = clock.local_day(clock.now())
    for path, problem in (
        (f"{CHANNEL}/{today}", "bill-not-ready"),
        (f"{CHANNEL}/{today - timedelta(days=1)}", "outside-unavailable"),
        (f"nobody/{today - timedelta(days=1)}", "unknown-channel"),
        (f"{CHANNEL}/2026-02-30", "malformed-request"),
    ):
        answer = await api.post(f"/v1/reconciliation/days/{path}/run", token=token)
        assert problem_of(answer) == problem


async def test_finance_stops_payouts_and_lets_them_go_on(api):
    token = await api.staff_token(await api.hire("finance"))
    assert (
        problem_of(await api.post("/v1/payout-stop/lift", {"note": "恢复出款"}, token=token)) == "not-stopped"
    )
    stopped = await api.post("/v1/payout-stop", {"note": "演练停付"}, token=token)
    assert stopped.json()["reason"] == "演练停付"
    books = (await api.get("/v1/reconciliation/books", token=token)).json()
    assert books["stop"]["reason"] == "演练停付"
    assert (await api.post("/v1/payout-stop/lift", {"note": "恢复出款"}, token=token)).status_code == 200
    assert (await api.get("/v1/reconciliation/books", token=token)).json()["stop"] is None
