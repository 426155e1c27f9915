"""Our accounts at the payment channels: where each is reached, under which name, with which keys.

What a contract allows (the least and the most that one transfer may be) stands beside them. Keys are PEM;
nothing here prints them.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from quanhui.base.rsa import load_private_key, load_public_key

Url = Annotated[str, Meta(pattern="^https?://.+[^/]$", max_length=256)]
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
HIDDEN = frozenset({"private_key", "notice_key"})


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one transfer may be, by contract. What it costs, and which channel goes first, is data."""

    least_fen: Annotated[int, Meta(ge=1, le=10**15)]
    most_fen: Annotated[int, Meta(ge=1, le=10**15)]

    def __post_init__(self) -> None:
        if self.least_fen > self.most_fen:
            raise ValueError("the least is above the most")

    def takes(self, amount_fen: int) -> bool:
        """Whether one transfer may carry this amount."""
        return self.least_fen <= amount_fen <= self.most_fen


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all have: our private key, and the public key that the channel answers with."""

    url: Url
    private_key: str
    platform_key: str
    terms: Terms

    def check(self) -> None:
        """Raise `ValueError` when a key cannot be used."""
        load_private_key(self.private_key)
        load_public_key(self.platform_key)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in HIDDEN]


class WechatAccount(Account, frozen=True, kw_only=True):
    """A WeChat merchant 商户号 with its app, its certificate's serial, and its key of notices (APIv3)."""

    merchant: Name
    app: Name
    serial: Name
    platform_serial: Name
    notice_key: Annotated[str, Meta(pattern="^[ -~]{32}$")]


class AlipayAccount(Account, frozen=True, kw_only=True):
    """An Alipay application 应用."""

    app: Name
