"""The payment institution 支付机构: it holds the money and moves it when told; we tell, ask and listen.

Every instruction carries our number `out_no`, and the institution acts on a number at most once. So the
rule for every unclear answer is one and the same: the state is unknown; query that number, or send
exactly the same again; never send under a new number before an explicit failure.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeVar

import aiohttp
import msgspec
from msgspec import Meta

from quanhui.base.errors import MalformedRequest
from quanhui.base.http import NoAnswer, Reply, SignedClient
from quanhui.base.signing import verify

CONCURRENCY = 32
SET_LIMIT = 100
BILL_PAGES = 1_000
OK = 200
REASON_LENGTH = 64
PARTY = "institution"
HIDDEN_FIELDS = frozenset({"payee_account", "payee_name"})

Instant = Annotated[datetime, Meta(tz=True)]
Fen = Annotated[int, Meta(ge=0)]


class TransferState(StrEnum):
    """How a transfer or refund stands. `RETURNED` is 退票: paid, and sent back by the payee's bank."""

    ACCEPTED = "accepted"
    AWAITING_PAYEE = "awaiting_payee"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETURNED = "returned"
    UNKNOWN = "unknown"
    NOT_FOUND = "not_found"


class PaymentState(StrEnum):
    """How the collection from a buyer stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    NOT_FOUND = "not_found"


class EventKind(StrEnum):
    """What a callback tells."""

    TRANSFER_AWAITING_PAYEE = "transfer.awaiting_payee"
    TRANSFER_SUCCEEDED = "transfer.succeeded"
    TRANSFER_FAILED = "transfer.failed"
    TRANSFER_RETURNED = "transfer.returned"
    PAYMENT_SUCCEEDED = "payment.succeeded"
    PAYMENT_CLOSED = "payment.closed"
    REFUND_SUCCEEDED = "refund.succeeded"
    REFUND_FAILED = "refund.failed"


class BillKind(StrEnum):
    """What a line of the bill is: money out to a payee, back from them, in from a buyer, back to them."""

    TRANSFER = "transfer"
    RETURN = "return"
    PAYMENT = "payment"
    REFUND = "refund"


class TransferOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Pay a payee. `out_no` is at most 32 letters and digits. Prints neither account nor name.

    With `authorization_no`, under which the payee has agreed to receive without a tap 免确认收款授权, a
    channel that knows such a thing pays at once.
    """

    out_no: str
    amount_fen: int
    payee_account: str
    payee_name: str
    purpose: str
    authorization_no: str | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = (name for name in self.__struct_fields__ if name not in HIDDEN_FIELDS)
        return [(name, getattr(self, name)) for name in shown]


class TransferReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a transfer or refund. `reason` says why it failed, was returned or is unknown.

    `package_info` is what the payee's app opens for them to tap, when the channel awaits that.
    """

    out_no: str
    state: TransferState
    reason: str | None = None
    institution_no: str | None = None
    amount_fen: Fen | None = None
    package_info: str | None = None


class PaymentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Collect from a buyer, who may pay until `expires_at`."""

    out_no: str
    amount_fen: int
    description: str
    expires_at: datetime


class PaymentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a collection."""

    out_no: str
    state: PaymentState
    reason: str | None = None
    institution_no: str | None = None
    amount_fen: Fen | None = None


class RefundOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Give a buyer back what was paid under `payment_out_no`, or a part; `out_no` is the refund's own."""

    out_no: str
    payment_out_no: str
    amount_fen: int
    reason: str


class InstitutionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that became true there. The same event may come twice, late, or after its successor."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    kind: EventKind = msgspec.field(name="type")
    out_no: str
    amount_fen: Fen
    at: Instant
    reason: str | None = None


class CallbackEvents(msgspec.Struct, frozen=True, kw_only=True):
    """A callback whose signature holds: its message id and what it tells."""

    message_id: str
    events: tuple[InstitutionEvent, ...]


class BillLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a day's bill. `seq` rises through the bill."""

    seq: int
    kind: BillKind
    out_no: str
    institution_no: str
    amount_fen: Fen
    at: Instant


class Institution(Protocol):
    """What the platform asks of every channel 出款渠道 that pays sellers.

    Reports come in the order asked, one for each, and one that could not be had is a report in the state
    unknown: these methods do not raise for it. They call outside, so they run outside any transaction.
    """

    async def send(self, orders: Sequence[TransferOrder], *, now: datetime) -> list[TransferReport]:
        """Instruct transfers. Sending the same order again is safe."""
        ...

    async def query(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How transfers stand."""
        ...

    async def close(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """Close transfers not yet paid; the reports say whether that came in time."""
        ...

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """Everything that moved on a Shanghai day. Raises `NoAnswer`: half a bill is none."""
        ...

    def verify_callback(self, headers: Mapping[str, str], body: bytes, now: datetime) -> CallbackEvents:
        """Read a callback. Raises `BadSignature`, or `MalformedRequest` for signed nonsense."""
        ...


class Collector(Institution, Protocol):
    """A channel that also collects from buyers 收款; a bank, for one, may only pay."""

    async def open_payments(self, orders: Sequence[PaymentOrder], *, now: datetime) -> list[PaymentReport]:
        """Ask buyers to pay."""
        ...

    async def query_payments(self, out_nos: Sequence[str], *, now: datetime) -> list[PaymentReport]:
        """How collections stand."""
        ...

    async def close_payments(self, out_nos: Sequence[str], *, now: datetime) -> list[PaymentReport]:
        """Close collections not yet paid; the reports say whether that came in time."""
        ...

    async def refund(self, orders: Sequence[RefundOrder], *, now: datetime) -> list[TransferReport]:
        """Instruct refunds. Sending the same order again is safe."""
        ...

    async def query_refunds(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How refunds stand."""
        ...


Order = TypeVar("Order", TransferOrder, PaymentOrder, RefundOrder)
Report = TypeVar("Report", TransferReport, PaymentReport)
Body = TypeVar("Body")


class _Results(msgspec.Struct, frozen=True):
    results: list[Any]


class _BillPage(msgspec.Struct, frozen=True):
    lines: list[BillLine]
    next_after: int | None


class _Callback(msgspec.Struct, frozen=True):
    events: Annotated[tuple[InstitutionEvent, ...], Meta(max_length=1000)]


class SandboxInstitution:
    """A `Collector` that speaks the sandbox's protocol, in which nobody gives authorisations.

    `secret` signs our calls, `callback_secret` its callbacks, which it sends to `callback_url` (or where it
    was started to send them, if None).
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        secret: bytes,
        callback_secret: bytes,
        callback_url: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._client = SignedClient(http, base_url=base_url, party=PARTY, secret=secret, timeout_s=timeout_s)
        self._callback_secret = callback_secret
        self._callback = {} if callback_url is None else {"callback_url": callback_url}
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def send(self, orders: Sequence[TransferOrder], *, now: datetime) -> list[TransferReport]:
        """Instruct transfers, each in a call of its own: what happens to one touches no other."""
        return await self._order("/v1/transfers", orders, TransferReport, now)

    async def query(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How transfers stand."""
        return await self._ask("/v1/transfers/query", out_nos, TransferReport, now)

    async def close(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """Close transfers not yet paid."""
        return await self._ask("/v1/transfers/close", out_nos, TransferReport, now)

    async def open_payments(self, orders: Sequence[PaymentOrder], *, now: datetime) -> list[PaymentReport]:
        """Ask buyers to pay."""
        return await self._order("/v1/payments", orders, PaymentReport, now)

    async def query_payments(self, out_nos: Sequence[str], *, now: datetime) -> list[PaymentReport]:
        """How collections stand."""
        return await self._ask("/v1/payments/query", out_nos, PaymentReport, now)

    async def close_payments(self, out_nos: Sequence[str], *, now: datetime) -> list[PaymentReport]:
        """Close collections not yet paid."""
        return await self._ask("/v1/payments/close", out_nos, PaymentReport, now)

    async def refund(self, orders: Sequence[RefundOrder], *, now: datetime) -> list[TransferReport]:
        """Instruct refunds."""
        return await self._order("/v1/refunds", orders, TransferReport, now)

    async def query_refunds(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How refunds stand."""
        return await self._ask("/v1/refunds/query", out_nos, TransferReport, now)

    async def play_buyer_paying(self, out_no: str, *, now: datetime) -> PaymentReport:
        """What a buyer's phone does at a real institution; only the sandbox lets us do it."""
        reply = await self._post("/v1/payments/pay", {"out_no": out_no}, now)
        return _report(reply, _read(reply, Any), out_no, PaymentReport)

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """Everything that moved on a Shanghai day. Raises `NoAnswer`: half a bill is none."""
        lines: list[BillLine] = []
        after: int | None = 0
        for _ in range(BILL_PAGES):
            reply = await self._post("/v1/bills", {"day": day, "after": after}, now)
            page = _read(reply, _BillPage)
            if page is None:
                break
            lines += page.lines
            after = page.next_after
            if after is None:
                return lines
        raise NoAnswer(party=PARTY)

    def verify_callback(self, headers: Mapping[str, str], body: bytes, now: datetime) -> CallbackEvents:
        """Read a callback. Raises `BadSignature`, or `MalformedRequest` for signed nonsense."""
        message_id = verify(self._callback_secret, headers, now=now, body=body)
        try:
            events = msgspec.json.decode(body, type=_Callback).events
        except msgspec.DecodeError:
            raise MalformedRequest from None
        return CallbackEvents(message_id=message_id, events=events)

    async def _order(
        self, path: str, orders: Sequence[Order], report: type[Report], now: datetime
    ) -> list[Report]:
        async def order_one(order: Order) -> Report:
            content = msgspec.structs.asdict(order) | self._callback
            content.pop("authorization_no", None)
            reply = await self._post(path, content, now)
            return _report(reply, _read(reply, Any), order.out_no, report, order.amount_fen)

        return await asyncio.gather(*(order_one(order) for order in orders))

    async def _ask(
        self, path: str, out_nos: Sequence[str], report: type[Report], now: datetime
    ) -> list[Report]:
        async def ask_part(part: Sequence[str]) -> list[Report]:
            reply = await self._post(path, {"out_nos": part}, now)
            answer = _read(reply, _Results)
            found = answer.results if answer and len(answer.results) == len(part) else [None] * len(part)
            return [_report(reply, raw, out_no, report) for raw, out_no in zip(found, part, strict=True)]

        parts = [out_nos[start : start + SET_LIMIT] for start in range(0, len(out_nos), SET_LIMIT)]
        return [found for part in await asyncio.gather(*map(ask_part, parts)) for found in part]

    async def _post(self, path: str, payload: object, now: datetime) -> Reply | None:
        async with self._slots:
            try:
                return await self._client.post(path, payload, message_id=secrets.token_hex(16), now=now)
            except NoAnswer:
                return None


def _read(reply: Reply | None, kind: type[Body]) -> Body | None:
    """The body of a good reply, or None: no reply, a refusal, or one that makes no sense."""
    if reply is None or reply.status != OK:
        return None
    try:
        return msgspec.convert(reply.body, kind)
    except msgspec.ValidationError:
        return None


def _report(
    reply: Reply | None, raw: object, out_no: str, kind: type[Report], amount_fen: int | None = None
) -> Report:
    """What a part of a reply says, if it is about this number and amount; else a report that says unknown."""
    try:
        report = msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        return _unknown(out_no, reply, kind)
    wrong_amount = amount_fen is not None and report.amount_fen not in {None, amount_fen}
    if report.out_no != out_no or wrong_amount:
        return _unknown(out_no, reply, kind)
    return report


def _unknown(out_no: str, reply: Reply | None, kind: type[Report]) -> Report:
    """Any answer but a plain one leaves the state open, a refusal too: an earlier send may have acted."""
    if reply is None:
        reason = "no_answer"
    elif reply.status == OK:
        reason = "nonsense"
    else:
        code = reply.body.get("code") if isinstance(reply.body, dict) else None
        reason = f"http_{reply.status}" + (f"_{code[:REASON_LENGTH]}" if isinstance(code, str) else "")
    return msgspec.convert({"out_no": out_no, "state": "unknown", "reason": reason}, kind)
