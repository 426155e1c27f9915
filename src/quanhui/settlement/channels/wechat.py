"""WeChat merchant transfer v3 微信商家转账: one transfer a bill, under our number `out_bill_no`.

Written after https://pay.weixin.qq.com/doc/v3/merchant/4012716434 and its neighbours. A payee either taps to
receive (the report carries `package_info` for their app) or has agreed once to receive without
(`ask_authorisation`), and is then paid at once. Whatever is not a signed 200 leaves the state open, and so
does a signed 404 to anything but a query.
"""

import base64
import binascii
import csv
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar

import aiohttp
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

from quanhui.base import clock
from quanhui.base.accounts import WechatAccount
from quanhui.base.errors import MalformedRequest
from quanhui.base.http import NoAnswer
from quanhui.base.money import fen_of
from quanhui.base.rsa import load_private_key, load_public_key, sign_rsa, verify_rsa
from quanhui.base.signing import BadSignature
from quanhui.settlement.channels.line import Answer, Line, each, not_sent, require_recent, unknown
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

PARTY = "wechat"
OK, NOT_FOUND = 200, 404
ROOT = "/v3/fund-app/mch-transfer"
BILLS = f"{ROOT}/transfer-bills"
AUTHORISATIONS = f"{ROOT}/user-confirm-authorization"
SCENE, SCENE_INFO = "1010", "回收商品名称"
"""Second-hand recycling 二手回收: the scene that money for vouchers belongs to."""
NAME_FROM_FEN = 2_000_00
"""From here on WeChat wants the payee's real name."""
REMARK_LENGTH = 32
FINISHED = "MCHTRANSFER.BILL.FINISHED"

STATES = {
    "ACCEPTED": TransferState.ACCEPTED,
    "PROCESSING": TransferState.ACCEPTED,
    "WAIT_USER_CONFIRM": TransferState.AWAITING_PAYEE,
    "TRANSFERING": TransferState.ACCEPTED,
    "CANCELING": TransferState.ACCEPTED,
    "SUCCESS": TransferState.SUCCEEDED,
    "FAIL": TransferState.FAILED,
    "CANCELLED": TransferState.FAILED,
}
REASONS = {
    "PAYEE_ACCOUNT_ABNORMAL": "account_unusable",
    "ACCOUNT_FROZEN": "account_unusable",
    "ACCOUNT_NOT_EXIST": "account_unusable",
    "NAME_NOT_CORRECT": "name_mismatch",
    "OVERDUE_CLOSE": "payee_did_not_confirm",
    "RECEIVE_ACCOUNT_NOT_CONFIGURE": "account_unusable",
    "BALANCE_NOT_ENOUGH": "insufficient_funds",
    "DAY_RECEIVED_QUOTA_LIMIT": "daily_limit",
}
EVENTS = {
    "SUCCESS": EventKind.TRANSFER_SUCCEEDED,
    "FAIL": EventKind.TRANSFER_FAILED,
    "CANCELLED": EventKind.TRANSFER_FAILED,
}
# The columns of a funds bill that say what moved, and how its kinds of business translate.
BILL_COLUMNS = ("记账时间", "微信支付业务单号", "业务名称", "收支类型", "收支金额（元）", "业务凭证号")
BILL_KINDS = {("商家转账", "支出"): BillKind.TRANSFER, ("商家转账退回", "收入"): BillKind.RETURN}
BILL_TIME = "%Y-%m-%d %H:%M:%S"

Body = TypeVar("Body")
PositiveFen = Annotated[int, Meta(ge=1)]


class _Taken(msgspec.Struct, frozen=True):
    out_bill_no: str
    transfer_bill_no: str
    state: str
    fail_reason: str | None = None
    package_info: str | None = None


class _Bill(msgspec.Struct, frozen=True, kw_only=True):
    mch_id: str
    out_bill_no: str
    transfer_bill_no: str
    state: str
    transfer_amount: PositiveFen
    fail_reason: str | None = None
    update_time: Annotated[datetime, Meta(tz=True)]


class _Error(msgspec.Struct, frozen=True):
    code: str


class _Resource(msgspec.Struct, frozen=True):
    algorithm: Literal["AEAD_AES_256_GCM"]
    ciphertext: str
    nonce: str
    associated_data: str = ""


class _Notice(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(min_length=1, max_length=64)]
    event_type: str
    resource_type: Literal["encrypt-resource"]
    resource: _Resource


class _BillLink(msgspec.Struct, frozen=True):
    hash_type: Literal["SHA1"]
    hash_value: str
    download_url: str


class Authorisation(msgspec.Struct, frozen=True):
    """How a payee's agreement to receive without a tap stands.

    `state` is WAIT_USER_CONFIRM until they tapped once, which takes `package_info`; then TAKING_EFFECT; or
    CLOSED.
    """

    out_authorization_no: str
    state: Literal["WAIT_USER_CONFIRM", "TAKING_EFFECT", "CLOSED"]
    package_info: str | None = None
    authorization_id: str | None = None


class WechatTransfers:
    """An `Institution` of WeChat. `notify_url` is where its callbacks go; real ones want https, no query."""

    def __init__(
        self, http: aiohttp.ClientSession, account: WechatAccount, *, notify_url: str, timeout_s: float = 5.0
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
            path = BILLS if order.authorization_no is None else f"{BILLS}/transfer"
            answer = await self._call("POST", path, self._content(order), now=now)
            taken = self._read(answer, _Taken, now)
            if taken is None or taken.out_bill_no != order.out_no or taken.state not in STATES:
                return unknown(order.out_no, _why(answer))
            return TransferReport(
                out_no=order.out_no,
                state=STATES[taken.state],
                reason=_reason(taken.state, taken.fail_reason),
                institution_no=taken.transfer_bill_no,
                package_info=taken.package_info,
            )

        return await each(orders, send_one)

    async def query(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """How transfers stand."""

        async def query_one(out_no: str) -> TransferReport:
            answer = await self._call("GET", _path_of(out_no), now=now)
            if self._says_not_found(answer, now):
                return TransferReport(out_no=out_no, state=TransferState.NOT_FOUND)
            bill = self._read(answer, _Bill, now)
            if bill is None or not self._is_ours(bill) or bill.out_bill_no != out_no:
                return unknown(out_no, _why(answer))
            return TransferReport(
                out_no=out_no,
                state=STATES[bill.state],
                reason=_reason(bill.state, bill.fail_reason),
                institution_no=bill.transfer_bill_no,
                amount_fen=bill.transfer_amount,
            )

        return await each(out_nos, query_one)

    async def close(self, out_nos: Sequence[str], *, now: datetime) -> list[TransferReport]:
        """Cancel what no payee has confirmed. WeChat takes its time: the reports are those of a query."""
        await each(out_nos, lambda out_no: self._call("POST", f"{_path_of(out_no)}/cancel", now=now))
        return await self.query(out_nos, now=now)

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """The funds bill of a Shanghai day. Raises `NoAnswer`: before ten on the next day there is none."""
        path = f"/v3/bill/fundflowbill?bill_date={day.isoformat()}&account_type=OPERATION"
        link = self._read(await self._call("GET", path, now=now), _BillLink, now)
        if link is None or not link.download_url.startswith(self._account.url + "/"):
            raise NoAnswer(party=PARTY)
        file = await self._call("GET", link.download_url.removeprefix(self._account.url), now=now)
        if file is None or file.status != OK or _sha1(file.body) != link.hash_value.lower():
            raise NoAnswer(party=PARTY)
        try:
            return read_bill(file.body.decode("utf-8-sig"))
        except (ValueError, LookupError):
            raise NoAnswer(party=PARTY) from None

    def verify_callback(self, headers: Mapping[str, str], body: bytes, now: datetime) -> CallbackEvents:
        """Read a callback. Raises `BadSignature`, or `MalformedRequest` for signed nonsense."""
        self._verify(headers, body, now)
        try:
            notice = msgspec.json.decode(body, type=_Notice)
            if notice.event_type != FINISHED:
                return CallbackEvents(message_id=notice.id, events=())
            bill = msgspec.json.decode(self._open(notice.resource), type=_Bill)
        except (msgspec.DecodeError, UnicodeError):
            raise MalformedRequest from None
        if not self._is_ours(bill) or bill.state not in EVENTS:
            raise MalformedRequest
        event = InstitutionEvent(
            id=notice.id,
            kind=EVENTS[bill.state],
            out_no=bill.out_bill_no,
            amount_fen=bill.transfer_amount,
            at=bill.update_time,
            reason=_reason(bill.state, bill.fail_reason),
        )
        return CallbackEvents(message_id=notice.id, events=(event,))

    async def ask_authorisation(
        self, out_no: str, *, openid: str, shown_name: str, now: datetime
    ) -> Authorisation | None:
        """Ask a payee to receive without a tap from now on; they have 24 hours. None: unknown, ask again."""
        content = {
            "out_authorization_no": out_no,
            "appid": self._account.app,
            "openid": openid,
            "transfer_scene_id": SCENE,
            "user_display_name": shown_name[:REMARK_LENGTH],
            "authorization_notify_url": self._notify_url,
        }
        answer = await self._call("POST", AUTHORISATIONS, content, now=now)
        return self._read(answer, Authorisation, now)

    async def query_authorisation(self, out_no: str, *, now: datetime) -> Authorisation | None:
        """How it stands. None: unknown, or never asked for."""
        answer = await self._call("GET", f"{AUTHORISATIONS}/out-authorization-no/{out_no}", now=now)
        return self._read(answer, Authorisation, now)

    async def close_authorisation(self, out_no: str, *, now: datetime) -> Authorisation | None:
        """End it; from then on the payee taps for each transfer."""
        answer = await self._call("POST", f"{AUTHORISATIONS}/out-authorization-no/{out_no}/close", now=now)
        return self._read(answer, Authorisation, now)

    def _content(self, order: TransferOrder) -> dict[str, Any]:
        content: dict[str, Any] = {
            "appid": self._account.app,
            "out_bill_no": order.out_no,
            "transfer_scene_id": SCENE,
            "transfer_amount": order.amount_fen,
            "transfer_remark": order.purpose[:REMARK_LENGTH],
            "notify_url": self._notify_url,
            "transfer_scene_report_infos": [
                {"info_type": SCENE_INFO, "info_content": order.purpose[:REMARK_LENGTH]}
            ],
        }
        if order.authorization_no is None:
            content["openid"] = order.payee_account
        else:
            content["out_authorization_no"] = order.authorization_no
        if order.amount_fen >= NAME_FROM_FEN:
            content["user_name"] = self._seal(order.payee_name)
        return content

    def _seal(self, text: str) -> str:
        padding = OAEP(mgf=MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303 - theirs
        return base64.b64encode(self._platform_key.encrypt(text.encode(), padding)).decode()

    def _open(self, resource: _Resource) -> bytes:
        cipher = AESGCM(self._account.notice_key.encode())
        try:
            sealed = base64.b64decode(resource.ciphertext, validate=True)
            return cipher.decrypt(resource.nonce.encode(), sealed, resource.associated_data.encode())
        except (InvalidTag, binascii.Error, ValueError):
            raise BadSignature from None

    async def _call(self, method: str, path: str, content: object = None, *, now: datetime) -> Answer | None:
        body = b"" if content is None else msgspec.json.encode(content)
        headers = {
            "accept": "application/json",
            "content-type": "application/json",
            "wechatpay-serial": self._account.platform_serial,
            "authorization": self._authorization(method, path, body, now),
        }
        return await self._line.call(method, path, headers=headers, body=body)

    def _authorization(self, method: str, path: str, body: bytes, now: datetime) -> str:
        timestamp, nonce = str(int(now.timestamp())), secrets.token_hex(16).upper()
        message = f"{method}\n{path}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"
        return (
            f'WECHATPAY2-SHA256-RSA2048 mchid="{self._account.merchant}",nonce_str="{nonce}",'
            f'signature="{sign_rsa(self._key, message)}",timestamp="{timestamp}",'
            f'serial_no="{self._account.serial}"'
        )

    def _verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        timestamp, nonce = headers.get("wechatpay-timestamp", ""), headers.get("wechatpay-nonce", "")
        if headers.get("wechatpay-serial", "") != self._account.platform_serial:
            raise BadSignature
        message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
        verify_rsa(self._platform_key, message, headers.get("wechatpay-signature", ""))
        require_recent(timestamp, now)

    def _is_signed(self, answer: Answer, now: datetime) -> bool:
        try:
            self._verify(answer.headers, answer.body, now)
        except BadSignature:
            return False
        return True

    def _read(self, answer: Answer | None, kind: type[Body], now: datetime) -> Body | None:
        """The body of a signed 200 that makes sense, or None."""
        if answer is None or answer.status != OK or not self._is_signed(answer, now):
            return None
        return _decode(answer.body, kind)

    def _says_not_found(self, answer: Answer | None, now: datetime) -> bool:
        if answer is None or answer.status != NOT_FOUND or not self._is_signed(answer, now):
            return False
        error = _decode(answer.body, _Error)
        return error is not None and error.code == "NOT_FOUND"

    def _is_ours(self, bill: _Bill) -> bool:
        return bill.mch_id == self._account.merchant and bill.state in STATES


def read_bill(text: str) -> list[BillLine]:
    """The transfers of a funds bill. Raises `ValueError` or `LookupError` when it does not hold together.

    Fields begin with a backtick so that spreadsheets leave them alone; amounts are yuan. The last line
    counts and adds up what came in and what went out.
    """
    rows = [[cell.removeprefix("`") for cell in row] for row in csv.reader(text.splitlines()) if row]
    if len(rows) < 3:  # noqa: PLR2004 - a head, and the two lines of the summary
        raise ValueError("not a funds bill")
    head, *lines, _, summary = rows
    at = {name: head.index(name) for name in BILL_COLUMNS}
    sums = {"收入": [0, 0], "支出": [0, 0]}
    found = []
    for seq, row in enumerate(lines, start=1):
        moment, number, business, direction, amount, out_no = (row[at[name]] for name in BILL_COLUMNS)
        amount_fen = fen_of(amount)
        sums[direction][0] += 1
        sums[direction][1] += amount_fen
        kind = BILL_KINDS.get((business, direction))
        if kind is None:
            continue
        when = datetime.strptime(moment, BILL_TIME).replace(tzinfo=clock.SHANGHAI)
        found.append(
            BillLine(seq=seq, kind=kind, out_no=out_no, institution_no=number, amount_fen=amount_fen, at=when)
        )
    (ins, in_fen), (outs, out_fen) = sums.values()
    told = [int(summary[0]), int(summary[1]), fen_of(summary[2]), int(summary[3]), fen_of(summary[4])]
    if told != [len(lines), ins, in_fen, outs, out_fen]:
        raise ValueError("the bill does not add up")
    return found


def _path_of(out_no: str) -> str:
    return f"{BILLS}/out-bill-no/{out_no}"


def _sha1(raw: bytes) -> str:
    return hashlib.sha1(raw).hexdigest()  # noqa: S324 - WeChat's choice; the line is TLS


def _decode(raw: bytes, kind: type[Body]) -> Body | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _reason(state: str, fail_reason: str | None) -> str | None:
    if state == "CANCELLED":
        return "closed"
    if state != "FAIL":
        return None
    return REASONS.get(fail_reason or "", (fail_reason or "unspecified").lower())


def _why(answer: Answer | None) -> str:
    if answer is None:
        return "no_answer"
    if answer.status == OK:
        return "nonsense"
    error = _decode(answer.body, _Error)
    return f"http_{answer.status}" + (f"_{error.code}" if error else "")
