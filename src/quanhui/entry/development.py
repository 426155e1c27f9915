"""The payment channels of development: accounts whose keys everyone can read, at sandboxes on this machine.

Production refuses these keys. The channels' own private key is here too, for the sandboxes to sign with.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from quanhui.base.accounts import Account, AlipayAccount, Terms, WechatAccount

FOLDER = Path(__file__).parent / "development_keys"


@cache
def channel_accounts() -> Mapping[str, Account]:
    """Our accounts, by channel. What they cost and carry is invented."""
    keys = {"private_key": _read("ours.pem"), "platform_key": _read("theirs.public.pem")}
    return {
        "wechat": WechatAccount(
            **keys,
            url="http://127.0.0.1:8714",
            merchant="1900000109",
            app="wx2421b1c4370ec43b",
            serial="3775B6A45ACD588826D15E583A95F5DD00000001",
            platform_serial="PUB_KEY_ID_0114232134912410000000000000",
            notice_key="everyone knows this notice key!!",
            terms=Terms(least_fen=10, most_fen=20_000_00),
        ),
        "alipay": AlipayAccount(
            **keys,
            url="http://127.0.0.1:8715",
            app="2021000118640001",
            terms=Terms(least_fen=10, most_fen=50_000_00),
        ),
    }


def is_public(account: Account) -> bool:
    """Whether an account uses a key that everyone can read."""
    return account.private_key == _read("ours.pem") or account.platform_key == _read("theirs.public.pem")


def sandbox_keys(accounts: Mapping[str, Account]) -> str:
    """What the sandboxes must know of these accounts, as they read it from their environment."""
    keys = {"private_key": _read("theirs.pem"), "customer_key": _read("ours.public.pem")}
    known = {
        name: {**keys, "names": {field: value for field, value in _names(account) if isinstance(value, str)}}
        for name, account in accounts.items()
    }
    return msgspec.json.encode(known).decode()


def _names(account: Account) -> list[tuple[str, Any]]:
    told = set(account.__struct_fields__) - {"private_key", "platform_key", "url", "terms"}
    return [(field, getattr(account, field)) for field in sorted(told)]


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text()
