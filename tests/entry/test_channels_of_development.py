"""A clone can pay through every channel as it runs: its accounts fit the sandboxes started for it."""

import os
import subprocess
from pathlib import Path

import msgspec
from factories.platform import free_ports
from fakes.outside import Sandbox, http_client, until_it_answers

from quanhui.base import clock
from quanhui.entry.launch import sandboxes
from quanhui.entry.settings import load
from quanhui.entry.wiring import _channels, _institution
from quanhui.settlement import TransferOrder, TransferState


def played(tmp_path: Path):
    """The settings of development, on ports of this test."""
    settings = load({"QUANHUI_DATA_DIR": str(tmp_path)})
    wechat, alipay = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    return msgspec.structs.replace(
        settings,
        wechat=msgspec.structs.replace(settings.wechat, url=wechat),
        alipay=msgspec.structs.replace(settings.alipay, url=alipay),
    )


def started(child, log_file):
    with log_file.open("wb") as log:
        environment = {**os.environ, **child.environment}
        return subprocess.Popen(child.command, env=environment, stdout=log, stderr=log)


async def test_the_accounts_of_development_pay_through_the_sandboxes_started_for_them(tmp_path):
    settings = played(tmp_path)
    (child,) = [child for child in sandboxes(settings) if child.name == "channels-sandbox"]
    log_file = tmp_path / "channels.log"
    process = started(child, log_file)
    with Sandbox("channels", settings.wechat.url, tmp_path, [], process) as sandbox:
        until_it_answers(sandbox, log_file)
        async with http_client() as http:
            channels = _channels(settings, http, _institution(settings, http))
            assert list(channels) == ["institution", "wechat", "alipay"]
            for name in ("wechat", "alipay"):
                order = TransferOrder(
                    out_no="D1", amount_fen=3_000_00, payee_account="someone", payee_name="张三", purpose="x"
                )
                (report,) = await channels[name].send([order], now=clock.now())
                assert report.state in {TransferState.ACCEPTED, TransferState.AWAITING_PAYEE}
        assert sandbox.stop() == 0


def test_no_sandbox_plays_a_channel_at_which_the_account_is_our_own(tmp_path):
    settings = msgspec.structs.replace(played(tmp_path), wechat=None, alipay=None)
    assert "channels-sandbox" not in [child.name for child in sandboxes(settings)]
