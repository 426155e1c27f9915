"""The connector to issuers who speak our own simple protocol: signed JSON, sets of at most a hundred.

What comes back is believed only as far as it makes sense: an answer of the wrong shape or number, a
negative balance, one above the face value, is no answer at all.
"""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Generic, TypeVar

import aiohttp
import msgspec
from msgspec import Meta

from quanhui.base.http import NoAnswer, SignedClient
from quanhui.catalogue.connectors import (
    BalanceCheck,
    BalanceStatus,
    ExtendOutcome,
    ExtendRequest,
    HoldOutcome,
    HoldRequest,
    RedeemOutcome,
    RedeemRequest,
    RekeyOutcome,
)

SET_LIMIT = 100
CONCURRENCY = 8
OK = 200

Wire = TypeVar("Wire")
Asked = TypeVar("Asked")
Fen = Annotated[int, Meta(ge=0)]
Instant = Annotated[datetime, Meta(tz=True)]


class IssuerAnsweredNonsense(NoAnswer):
    """The issuer replied, but with nothing to act on: what it did is as unknown as without a reply."""


class _Check(msgspec.Struct, frozen=True, kw_only=True):
    status: BalanceStatus
    face_fen: Annotated[int, Meta(ge=1)] | None = None
    balance_fen: Fen | None = None
    expires_at: Instant | None = None
    product_hint: str | None = None


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    reason: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    new_code: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    balance_fen: Fen | None = None
    expires_at: Instant | None = None


class _Results(msgspec.Struct, Generic[Wire], frozen=True):
    results: list[Wire]


class SandboxIssuerConnector:
    """An `IssuerConnector` for one issuer behind a connector address.

    `issuer` is the issuer's name there. Large sets travel in parts, a few at a time; if one part gets no
    answer the whole call raises `NoAnswer`, and repeating it under the same references is safe.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        issuer: str,
        secret: bytes,
        timeout_s: float = 5.0,
    ) -> None:
        self._issuer = issuer
        self._client = SignedClient(
            http, base_url=base_url, party=f"issuer {issuer}", secret=secret, timeout_s=timeout_s
        )
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def verify(self, codes: Sequence[str], *, now: datetime) -> list[BalanceCheck]:
        """What codes are worth by the issuer's books."""
        checks = await self._ask("verify", "codes", codes, _Results[_Check], now=now)
        return [self._believe(check) for check in checks]

    async def lock(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[HoldOutcome]:
        """Keep anyone but us from drawing on codes."""
        return [
            HoldOutcome(ok=answer.ok, reason=answer.reason)
            for answer in await self._do("lock", requests, now)
        ]

    async def unlock(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[HoldOutcome]:
        """Give back locks taken under the same references."""
        answers = await self._do("unlock", requests, now)
        return [HoldOutcome(ok=answer.ok, reason=answer.reason) for answer in answers]

    async def rekey(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[RekeyOutcome]:
        """Replace codes by new ones that the former holder does not know."""
        answers = await self._do("rekey", requests, now)
        old_codes = {request.code for request in requests}
        new_codes = [answer.new_code for answer in answers if answer.ok]
        if None in new_codes or len(set(new_codes)) < len(new_codes) or old_codes & set(new_codes):
            raise self._nonsense()
        return [RekeyOutcome(ok=a.ok, new_code=a.new_code, reason=a.reason) for a in answers]

    async def redeem(self, requests: Sequence[RedeemRequest], *, now: datetime) -> list[RedeemOutcome]:
        """Draw amounts, each at most once for its reference."""
        return self._balances(await self._do("redeem", requests, now))

    async def reverse(self, requests: Sequence[RedeemRequest], *, now: datetime) -> list[RedeemOutcome]:
        """Undo draws made under the same references."""
        return self._balances(await self._do("reverse", requests, now))

    async def extend(self, requests: Sequence[ExtendRequest], *, now: datetime) -> list[ExtendOutcome]:
        """Lengthen the validity of codes."""
        answers = await self._do("extend", requests, now)
        if any(answer.ok and answer.expires_at is None for answer in answers):
            raise self._nonsense()
        return [ExtendOutcome(ok=a.ok, expires_at=a.expires_at, reason=a.reason) for a in answers]

    async def _do(
        self,
        operation: str,
        requests: Sequence[HoldRequest] | Sequence[RedeemRequest] | Sequence[ExtendRequest],
        now: datetime,
    ) -> list[_Answer]:
        answers = await self._ask(operation, "items", requests, _Results[_Answer], now=now)
        if any(answer.ok == (answer.reason is not None) for answer in answers):
            raise self._nonsense()
        return answers

    async def _ask(
        self,
        operation: str,
        field: str,
        asked: Sequence[Asked],
        answer_type: type[_Results[Wire]],
        *,
        now: datetime,
    ) -> list[Wire]:
        async def ask_part(part: Sequence[Asked]) -> list[Wire]:
            async with self._slots:
                reply = await self._client.post(
                    f"/v1/{self._issuer}/{operation}",
                    {field: part},
                    message_id=secrets.token_hex(16),
                    now=now,
                )
            if reply.status != OK:
                raise self._nonsense()
            try:
                results = msgspec.convert(reply.body, answer_type).results
            except msgspec.ValidationError:
                raise self._nonsense() from None
            if len(results) != len(part):
                raise self._nonsense()
            return results

        parts = [asked[start : start + SET_LIMIT] for start in range(0, len(asked), SET_LIMIT)]
        answers = await asyncio.gather(*(ask_part(part) for part in parts))
        return [answer for part in answers for answer in part]

    def _believe(self, check: _Check) -> BalanceCheck:
        face_fen, balance_fen = check.face_fen, check.balance_fen
        if check.status is BalanceStatus.UNKNOWN:
            return BalanceCheck(status=check.status)
        if face_fen is None or balance_fen is None or check.expires_at is None or balance_fen > face_fen:
            raise self._nonsense()
        if check.status is BalanceStatus.KNOWN and balance_fen == 0:
            raise self._nonsense()
        return BalanceCheck(
            status=check.status,
            face_fen=face_fen,
            balance_fen=balance_fen,
            expires_at=check.expires_at,
            product_hint=check.product_hint,
        )

    def _balances(self, answers: Sequence[_Answer]) -> list[RedeemOutcome]:
        if any(answer.ok and answer.balance_fen is None for answer in answers):
            raise self._nonsense()
        return [RedeemOutcome(ok=a.ok, balance_fen=a.balance_fen, reason=a.reason) for a in answers]

    def _nonsense(self) -> IssuerAnsweredNonsense:
        return IssuerAnsweredNonsense(party=f"issuer {self._issuer}")
