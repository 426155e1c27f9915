"""Alipay transfers 支付宝转账 (`alipay.fund.trans.uni.transfer`), under our number `out_biz_no`.

Requests are forms signed with RSA2 over their sorted parameters; an answer is signed over the bytes of its
node as they stand. Only code 10000 and a closed list of refusals are definite. After 20000, a time-out or
anything unheard of, query the number, and send exactly the same again. A bank may return what it took:
REFUND after SUCCESS.
"""

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import msgspec
from msgspec import Meta

from quanhui.base import clock
from quanhui.base.accounts import AlipayAccount
from quanhui.base.errors import MalformedRequest
from quanhui.base.http import NoAnswer
from quanhui.base.money import fen_of, yuan_text
from quanhui.base.rsa import load_private_key, load_public_key, sign_rsa, verify_rsa
from quanhui.base.signing import MAX_AGE, BadSignature
from quanhui.settlement.channels.line import Answer, Line, each, not_sent, unknown
from quanhui.settlement.gateway import (
    BillKind,
    BillLine,
    CallbackEvents,
    EventKind,
    InstitutionEvent,
    TransferOrder,
    TransferReport,
    TransferState,
)

PARTY = "alipay"
OK = 200
GATEWAY = "/gateway.do"
SUCCESS = "10000"
TRANSFER, QUERY = "alipay.fund.trans.uni.transfer", "alipay.fund.trans.common.query"
BILL = "alipay.data.dataservice.bill.downloadurl.query"
CHANGED = "alipay.fund.trans.order.changed"
PRODUCT = {"product_code": "TRANS_ACCOUNT_NO_PWD", "biz_scene": "DIRECT_TRANSFER"}
TIME = "%Y-%m-%d %H:%M:%S"
TITLE_LENGTH = 64
NOTICE_PARAMETERS = 32
NOTICE_MAX_AGE = timedelta(hours=26)
"""Alipay tells again for 25 hours; what it told before is known by its id."""
LARGEST_BILL = 256_000_000

STATES = {
    "SUCCESS": TransferState.SUCCEEDED,
    "DEALING": TransferState.ACCEPTED,
    "WAIT_PAY": TransferState.ACCEPTED,
    "FAIL": TransferState.FAILED,
    "CLOSED": TransferState.FAILED,
    "REFUND": TransferState.RETURNED,
}
EVENTS = {
    "SUCCESS": EventKind.TRANSFER_SUCCEEDED,
    "FAIL": EventKind.TRANSFER_FAILED,
    "CLOSED": EventKind.TRANSFER_FAILED,
    "REFUND": EventKind.TRANSFER_RETURNED,
}
# Refusals after which the number has certainly not been paid, in our words. Every other is an open state.
REASONS = {
    "PAYEE_NOT_EXIST": "account_unusable",
    "PAYEE_ACCOUNT_STATUS_ERROR": "account_unusable",
    "PAYEE_USER_INFO_ERROR": "name_mismatch",
    "PAYER_BALANCE_NOT_ENOUGH": "insufficient_funds",
    "EXCEED_LIMIT_DM_MAX_AMOUNT": "daily_limit",
}
BILL_COLUMNS = ("业务流水号", "商户订单号", "发生时间", "收入金额（+元）", "支出金额（-元）", "业务类型")
BILL_TOTAL = re.compile(r"#(支出|收入)合计：([0-9]+)笔，共-?([0-9.]+)元")


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What any node may say. An amount comes as text or as a number, and is read as it stands."""

    code: str
    sub_code: str | None = None
    out_biz_no: str | None = None
    order_id: str | None = None
    status: str | None = None
    error_code: str | None = None
    trans_amount: msgspec.Raw = msgspec.Raw()
    bill_download_url: str | None = None


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    out_biz_no: str
    order_id: str
    status: str
    trans_amount: str
    error_code: str | None = None


class _Notice(msgspec.Struct, frozen=True, kw_only=True):
    notify_id: Annotated[str, Meta(min_length=1, max_length=64)]
    msg_method: str
    biz_content: str
    utc_timestamp: Annotated[str, Meta(pattern="^[0-9]{13}$")]


class AlipayTransfers:
    """An `Institution` of Alipay. `notify_url` is where its notices go."""

    def __init__(
        self, http: aiohttp.ClientSession, account: AlipayAccount, *, notify_url: str, timeout_s: float = 5.0
    ) -> None:
        self._line = Line(http, url=account.url, timeout_s=timeout_s)
        self._account = account
        self._notify_url = notify_url
        self._key = load_private_key(account.private_key)
        self._platform_key = load_public_key(account.platform_key)

    async def send(self, orders: Sequence[TransferOrder], *, now: datetime) -> list[TransferReport]:
        """Instruct transfers, each in a call of its own."""

        async def send_one(order: TransferOrder) -> TransferReport:
            if not self._account.terms.takes(order.amount_fen):
                return not_sent(order.out_no)
            content = {
                **PRODUCT,
                "out_biz_no": order.out_no,
                "trans_amount": yuan_text(order.amount_fen),
                "order_title": order.purpose[:TITLE_LENGTH],
                "payee_info": {
                    "identity": order.payee_account,
                    "identity_type": "ALIPAY_LOGON_ID",
                    "name": order.payee_name,
                },
            }
            node = await self._call(TRANSFER, content, now=now, notify_url=self._notify_url)
            if isinstance(node, _Answer) and node.code != SUCCESS and node.sub_code in REASONS:
                return TransferReport(
                    out_no=order.out_no, state=TransferState.FAILED, reason=REASONS[node.sub_code]
                )
            return _report(order.out_no, node)

        return await each(orders, send_one)

    async def query(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How transfers stand."""

        async def query_one(out_no: str) -> TransferReport:
            node = await self._call(QUERY, {**PRODUCT, "out_biz_no": out_no}, now=now)
            if isinstance(node, _Answer) and node.code != SUCCESS and node.sub_code == "ORDER_NOT_EXIST":
                return TransferReport(out_no=out_no, state=TransferState.NOT_FOUND)
            report = _report(out_no, node)
            known = report.state in {TransferState.UNKNOWN, TransferState.NOT_FOUND}
            return report if known or report.amount_fen is not None else unknown(out_no, "nonsense")

        return await each(out_nos, query_one)

    async def close(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """Alipay takes no direct transfer back: the reports say how each stands."""
        return await self.query(out_nos, now=now)

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """The account's bill of a Shanghai day. Raises `NoAnswer`: half a bill is none."""
        content = {"bill_type": "signcustomer", "bill_date": day.isoformat()}
        node = await self._call(BILL, content, now=now)
        if not isinstance(node, _Answer) or node.code != SUCCESS or node.bill_download_url is None:
            raise NoAnswer(party=PARTY)
        url = node.bill_download_url
        if not url.startswith(("https://", self._account.url + "/")):
            raise NoAnswer(party=PARTY)
        file = await self._line.call("GET", url, headers={})
        if file is None or file.status != OK:
            raise NoAnswer(party=PARTY)
        try:
            return read_bill(_unzip(file.body))
        except (ValueError, LookupError, zipfile.BadZipFile):
            raise NoAnswer(party=PARTY) from None

    def verify_callback(self, headers: Mapping[str, str], body: bytes, now: datetime) -> CallbackEvents:  # noqa: ARG002 - all of it is in the body
        """Read a notice. Raises `BadSignature`, or `MalformedRequest` for signed nonsense."""
        given = self._verified(body)
        try:
            notice = msgspec.convert(given, _Notice)
            sent_at = int(notice.utc_timestamp) // 1000
        except msgspec.ValidationError:
            raise MalformedRequest from None
        age_s = now.timestamp() - sent_at
        if not -MAX_AGE.total_seconds() <= age_s <= NOTICE_MAX_AGE.total_seconds():
            raise BadSignature
        if notice.msg_method != CHANGED:
            return CallbackEvents(message_id=notice.notify_id, events=())
        try:
            change = msgspec.json.decode(notice.biz_content, type=_Change)
            amount_fen = fen_of(change.trans_amount)
        except (msgspec.DecodeError, ValueError):
            raise MalformedRequest from None
        if change.status not in EVENTS:
            return CallbackEvents(message_id=notice.notify_id, events=())
        event = InstitutionEvent(
            id=notice.notify_id,
            kind=EVENTS[change.status],
            out_no=change.out_biz_no,
            amount_fen=amount_fen,
            at=datetime.fromtimestamp(sent_at, clock.SHANGHAI),
            reason=_reason(change.status, change.error_code),
        )
        return CallbackEvents(message_id=notice.notify_id, events=(event,))

    def sign(self, parameters: Mapping[str, str]) -> str:
        """RSA2 over `name=value&…`, sorted by name."""
        return sign_rsa(self._key, _to_sign(parameters))

    def _verified(self, body: bytes) -> dict[str, str]:
        try:
            pairs = parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=NOTICE_PARAMETERS,
            )
        except ValueError:
            raise BadSignature from None
        given = dict(pairs)
        signature, kind = given.pop("sign", ""), given.pop("sign_type", "")
        if len(given) + 2 != len(pairs) or kind != "RSA2" or given.get("app_id") != self._account.app:
            raise BadSignature
        verify_rsa(self._platform_key, _to_sign(given), signature)
        return given

    async def _call(
        self, method: str, content: Mapping[str, Any], *, now: datetime, notify_url: str | None = None
    ) -> _Answer | str:
        """The node of a signed answer, or the word for why there is none."""
        parameters = {
            "app_id": self._account.app,
            "method": method,
            "format": "JSON",
            "charset": "utf-8",
            "sign_type": "RSA2",
            "timestamp": now.astimezone(clock.SHANGHAI).strftime(TIME),
            "version": "1.0",
            "biz_content": msgspec.json.encode(content).decode(),
        }
        if notify_url is not None:
            parameters["notify_url"] = notify_url
        form = urlencode({**parameters, "sign": self.sign(parameters)}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded;charset=utf-8"}
        answer = await self._line.call("POST", GATEWAY, headers=headers, body=form)
        return self._read(answer, method.replace(".", "_") + "_response")

    def _read(self, answer: Answer | None, name: str) -> _Answer | str:
        if answer is None:
            return "no_answer"
        if answer.status != OK:
            return f"http_{answer.status}"
        try:
            parts = msgspec.json.decode(answer.body, type=dict[str, msgspec.Raw])
            node, signature = bytes(parts[name]), msgspec.json.decode(parts["sign"], type=str)
            verify_rsa(self._platform_key, node, signature)
            return msgspec.json.decode(node, type=_Answer)
        except (msgspec.DecodeError, KeyError, UnicodeError, BadSignature):
            return "nonsense"


def read_bill(text: str) -> list[BillLine]:
    """The transfers of an account's bill. Raises `ValueError` or `LookupError` when it makes no sense.

    Lines with `#` are about the bill; the last of them count and add up what went out and what came in.
    """
    lines = text.splitlines()
    told = {found[1]: [int(found[2]), fen_of(found[3])] for line in lines if (found := _total(line))}
    head, *rows = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    at = {name: head.index(name) for name in BILL_COLUMNS}
    sums, found_lines = {"支出": [0, 0], "收入": [0, 0]}, []
    for seq, row in enumerate(rows, start=1):
        number, out_no, moment, came, went, business = (row[at[name]].strip() for name in BILL_COLUMNS)
        direction, amount = ("收入", came) if came else ("支出", went.removeprefix("-"))
        amount_fen = fen_of(amount)
        sums[direction][0] += 1
        sums[direction][1] += amount_fen
        if business not in {"转账", "转账退回"}:
            continue
        found_lines.append(
            BillLine(
                seq=seq,
                kind=BillKind.TRANSFER if direction == "支出" else BillKind.RETURN,
                out_no=out_no,
                institution_no=number,
                amount_fen=amount_fen,
                at=datetime.strptime(moment, TIME).replace(tzinfo=clock.SHANGHAI),
            )
        )
    if told != sums:
        raise ValueError("the bill does not add up")
    return found_lines


def _total(line: str) -> re.Match[str] | None:
    return BILL_TOTAL.fullmatch(line.strip())


def _unzip(raw: bytes) -> str:
    """The one table in the archive. Raises `ValueError` for what would unpack to too much."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        (details,) = (info for info in archive.infolist() if "汇总" not in info.filename)
        if details.file_size > LARGEST_BILL:
            raise ValueError("the bill is too large")
        with archive.open(details) as file:
            return file.read(LARGEST_BILL).decode("gb18030")


def _to_sign(parameters: Mapping[str, str]) -> bytes:
    return "&".join(f"{name}={value}" for name, value in sorted(parameters.items())).encode()


def _report(out_no: str, node: _Answer | str) -> TransferReport:
    if isinstance(node, str):
        return unknown(out_no, node)
    if node.code != SUCCESS:
        return unknown(out_no, f"code_{node.code}" + (f"_{node.sub_code}" if node.sub_code else ""))
    if node.out_biz_no != out_no or node.status not in STATES:
        return unknown(out_no, "nonsense")
    amount = bytes(node.trans_amount).decode().strip('"')
    try:
        amount_fen = fen_of(amount) if amount else None
    except ValueError:
        return unknown(out_no, "nonsense")
    return TransferReport(
        out_no=out_no,
        state=STATES[node.status],
        reason=_reason(node.status, node.error_code),
        institution_no=node.order_id,
        amount_fen=amount_fen,
    )


def _reason(status: str, error_code: str | None) -> str | None:
    if STATES[status] in {TransferState.FAILED, TransferState.RETURNED}:
        return REASONS.get(error_code or "", (error_code or "unspecified").lower())
    return None
