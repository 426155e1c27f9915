"""The callbacks of the channels over HTTP: believed once, refused when anything is wrong with them."""

import httpx
import msgspec
import pytest
from factories.payouts import opened, owed_orders, reread, sent
from fakes.channels import THEIRS, WECHAT_NAMES, alipay_account, key_pair, wechat_account
from litestar import Litestar, Request, Response
from litestar.di import Provide

from quanhui.base import clock
from quanhui.base.access import NOBODY
from quanhui.base.db import transaction
from quanhui.base.errors import Problem
from quanhui.base.rsa import load_private_key
from quanhui.base.web import Call, problem_view
from quanhui.sandboxes.alipay import AlipayWire
from quanhui.sandboxes.callbacks import Event
from quanhui.sandboxes.wechat import WechatWire
from quanhui.settlement import AlipayTransfers, State, WechatTransfers, out_no_of
from quanhui.settlement.routes import handlers

HOME = "http://127.0.0.1:9"
STRANGER = key_pair()[0]
TAKEN = {"wechat": '{"code":"SUCCESS"}', "alipay": "success"}


def all_channels():
    wechat, alipay = wechat_account(HOME), alipay_account(HOME)
    return {
        "wechat": WechatTransfers(None, wechat, notify_url=HOME),
        "alipay": AlipayTransfers(None, alipay, notify_url=HOME),
    }


def notice(name, payout, *, key=THEIRS, amount_fen=None):
    private = load_private_key(key)
    wires = {
        "wechat": WechatWire(private, WECHAT_NAMES),
        "alipay": AlipayWire(private, alipay_account(HOME).app),
    }
    event = Event(
        id=f"ev_{payout.id}",
        type="transfer.succeeded",
        out_no=out_no_of(payout.id, 1),
        amount_fen=payout.amount_fen if amount_fen is None else amount_fen,
        at=clock.now(),
        institution_no="42",
    )
    return wires[name].write([msgspec.json.encode(event)], forged=False)


@pytest.fixture
async def client(pool):
    async def call(request: Request) -> Call:
        return Call(actor=NOBODY, now=clock.now(), pool=pool, target="", key=None, body=b"", device_id=None)

    def refuse(_request: Request, problem: Problem) -> Response:
        return Response(problem_view(problem), status_code=problem.status)

    channels = all_channels()
    app = Litestar(
        handlers,
        dependencies={
            "call": Provide(call),
            "channels": Provide(lambda: channels, sync_to_thread=False),
        },
        exception_handlers={Problem: refuse},
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture
async def payout(pool, keyring):
    now = clock.now()
    async with transaction(pool) as db:
        (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
    return payout


async def tell(client, name, recorded):
    return await client.post(f"/callbacks/{name}", content=recorded.body, headers=recorded.headers)


@pytest.mark.parametrize("name", TAKEN)
async def test_a_notice_of_a_channel_pays_a_payout_once_however_often_it_comes(client, pool, payout, name):
    async with transaction(pool) as db:
        await sent(db, payout, channel=name)
    for _ in range(2):
        answer = await tell(client, name, notice(name, payout))
        assert (answer.status_code, answer.text) == (200, TAKEN[name])
    assert (await reread(pool, payout)).state is State.SUCCEEDED
    async with transaction(pool) as db:
        ids = [row[0] for row in await db.fetch("SELECT notification_id FROM settlement.callback_inbox")]
    assert [id_.split(":")[0] for id_ in ids] == [name]


async def test_a_notice_of_a_channel_that_a_transfer_was_not_sent_through_pays_nothing(client, pool, payout):
    async with transaction(pool) as db:
        await sent(db, payout, channel="alipay")
    assert (await tell(client, "wechat", notice("wechat", payout))).status_code == 200
    assert (await reread(pool, payout)).state is State.SUBMITTED


@pytest.mark.parametrize("name", TAKEN)
async def test_a_notice_that_a_stranger_signed_or_someone_changed_moves_nothing(client, pool, payout, name):
    forged = notice(name, payout, key=STRANGER)
    real = notice(name, payout)
    for recorded in (forged, msgspec.structs.replace(real, body=real.body + b" ")):
        assert (await tell(client, name, recorded)).status_code == 401
    assert (await tell(client, name, msgspec.structs.replace(real, body=b"", headers={}))).status_code == 401
    assert (await reread(pool, payout)).state is State.SUBMITTED


@pytest.mark.parametrize("name", TAKEN)
async def test_a_notice_of_one_channel_is_nothing_to_another(client, pool, payout, name):
    (other,) = set(TAKEN) - {name}
    assert (await tell(client, other, notice(name, payout))).status_code == 401
    assert (await reread(pool, payout)).state is State.SUBMITTED
