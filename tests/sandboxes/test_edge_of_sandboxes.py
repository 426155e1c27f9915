"""What every sandbox does at its door: signatures, replays, SMS as the smallest party behind it."""

from datetime import timedelta

import msgspec
import pytest
from fakes.outside import http_client, start_sandbox

from quanhui.base import clock
from quanhui.base.http import SignedClient
from quanhui.base.signing import sign

PATH = "/v1/messages"
MESSAGE = {"to": "13800000001", "template": "login", "params": {"code": "402113"}}


@pytest.fixture(scope="module")
def sms(tmp_path_factory):
    with start_sandbox("sms", tmp_path_factory.mktemp("sms")) as sandbox:
        yield sandbox
        assert sandbox.stop() == 0


async def post(sms, body, headers, path=PATH):
    raw = msgspec.json.encode(body)
    async with (
        http_client() as http,
        http.post(sms.url + path, data=raw, headers={**headers, "content-type": "application/json"}) as reply,
    ):
        return reply.status


def signed(sms, body, *, message_id="m1", secret=None, at=None, path=PATH):
    return sign(
        secret or sms.secret,
        id=message_id,
        now=at or clock.now(),
        body=msgspec.json.encode(body),
        target=f"POST {path}",
    )


async def test_a_message_arrives_where_its_recipient_can_read_it(sms):
    async with http_client() as http:
        client = SignedClient(http, base_url=sms.url, party="sms", secret=sms.secret)
        reply = await client.post(PATH, MESSAGE, message_id="first", now=clock.now())
    assert reply.status == 200
    (shown,) = sms.call("/control/messages?to=13800000001")[:1]
    assert shown["params"] == {"code": "402113"}
    assert sms.call("/control/messages?to=13800000009") == []


async def test_a_message_is_never_in_the_log(sms):
    assert await post(sms, MESSAGE, signed(sms, MESSAGE, message_id="logged")) == 200
    assert "402113" not in sms.state_dir.with_suffix(".log").read_text()


@pytest.mark.parametrize(
    "headers",
    [
        lambda _sms: {},
        lambda sms: signed(sms, MESSAGE, secret=b"another secret"),
        lambda sms: signed(sms, {**MESSAGE, "to": "13900000000"}),
        lambda sms: signed(sms, MESSAGE, path="/v1/other"),
        lambda sms: signed(sms, MESSAGE, at=clock.now() - timedelta(minutes=6)),
        lambda sms: signed(sms, MESSAGE, at=clock.now() + timedelta(minutes=6)),
    ],
    ids=["unsigned", "other secret", "other body", "other path", "too old", "from the future"],
)
async def test_what_is_not_signed_for_this_call_and_this_moment_is_refused(sms, headers):
    assert await post(sms, MESSAGE, headers(sms)) == 401


async def test_a_message_id_used_again_with_another_body_is_refused(sms):
    other = {**MESSAGE, "to": "13800000002"}
    assert await post(sms, MESSAGE, signed(sms, MESSAGE, message_id="used")) == 200
    assert await post(sms, MESSAGE, signed(sms, MESSAGE, message_id="used")) == 200
    assert await post(sms, other, signed(sms, other, message_id="used")) == 409


async def test_malformed_bodies_are_refused_as_such(sms):
    body = {**MESSAGE, "to": "not a number"}
    assert await post(sms, body, signed(sms, body, message_id="malformed")) == 400


async def test_messages_outlive_the_process(sms, tmp_path):
    with start_sandbox("sms", tmp_path) as sandbox:
        assert await post(sandbox, MESSAGE, signed(sandbox, MESSAGE)) == 200
        sandbox.kill()
    with sandbox.start_again() as again:
        assert len(again.call("/control/messages?to=13800000001")) == 1
