"""The payment channels for tests: all in one process, each with keys of its own, and our accounts there."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fakes.outside import Sandbox, free_port, until_it_answers

from quanhui.base.accounts import AlipayAccount, Terms, WechatAccount

NOTICE_KEY = "a notice key of thirty-two chars!"[:32]
TERMS = Terms(least_fen=10, most_fen=5_000_000_00)


def key_pair() -> tuple[str, str]:
    """A private key and its public one, in PEM."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


OURS, OUR_PUBLIC = key_pair()
THEIRS, THEIR_PUBLIC = key_pair()
WECHAT_NAMES = {
    "merchant": "1900000109",
    "app": "wx2421b1c4370ec43b",
    "serial": "3775B6A45ACD588826D15E583A95F5DD00000001",
    "platform_serial": "PUB_KEY_ID_0114232134912410000000000000",
    "notice_key": NOTICE_KEY,
}
ALIPAY_NAMES = {"app": "2021000118640001"}


def wechat_account(url: str, **changes: object) -> WechatAccount:
    return WechatAccount(
        **{
            "url": url,
            "private_key": OURS,
            "platform_key": THEIR_PUBLIC,
            "terms": TERMS,
            **WECHAT_NAMES,
            **changes,
        }
    )


def alipay_account(url: str, **changes: object) -> AlipayAccount:
    return AlipayAccount(
        **{
            "url": url,
            "private_key": OURS,
            "platform_key": THEIR_PUBLIC,
            "terms": TERMS,
            **ALIPAY_NAMES,
            **changes,
        }
    )


NAMES = {"wechat": WECHAT_NAMES, "alipay": ALIPAY_NAMES}


def start_channel(name: str, tmp_path: Path, *, settle_s: float = 0.02) -> Sandbox:
    """Start one channel and wait until it answers. The caller stops it."""
    url = f"http://127.0.0.1:{free_port()}"
    state = tmp_path / name
    state.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-W", "error", "-m", "quanhui.sandboxes.channels", f"{name}={url}",
        "--state", str(state), "--settle", str(settle_s),
    ]  # fmt: skip
    keys = {name: {"private_key": THEIRS, "customer_key": OUR_PUBLIC, "names": NAMES[name]}}
    log_file = state.with_suffix(".log")
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "QUANHUI_CHANNEL_KEYS": json.dumps(keys)}, stdout=log, stderr=log
        )
    sandbox = Sandbox(name, url, state, [], process)
    until_it_answers(sandbox, log_file)
    return sandbox
