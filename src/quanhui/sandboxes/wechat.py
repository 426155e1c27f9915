"""WeChat merchant transfer v3, played over its own wire: RSA signatures, AES-GCM notices, bills in yuan.

Checked here: the Authorization of each request (who, when, over which bytes), the form of numbers and
amounts, the payee's name from 2,000 yuan on, and that a number used again says the same. A payee who must
tap does so by itself after `settle_s`, unless the fault `awaiting_payee` lets them wait. Bills can be had
on the same day: days pass quickly in play.
"""

import base64
import hashlib
import re
import secrets
import sqlite3
from collections.abc import Sequence
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

from quanhui.base import clock
from quanhui.base.money import yuan_text
from quanhui.base.rsa import load_private_key, load_public_key, sign_rsa, verify_rsa
from quanhui.base.signing import MAX_AGE, BadSignature
from quanhui.sandboxes.callbacks import Event, Recorded, Wire
from quanhui.sandboxes.channel import ChannelOptions
from quanhui.sandboxes.faults import FaultTable
from quanhui.sandboxes.institution import BILL_PAGE, BillLine, Institution, Kind, Order, View
from quanhui.sandboxes.store import Refusal, Store

ROOT = "/v3/fund-app/mch-transfer"
LEAST_FEN = 10
NAME_FROM_FEN = 2_000_00
FILE = "/v3/billdownload/file"
AUTHORIZATION = re.compile(r'WECHATPAY2-SHA256-RSA2048 ((?:[a-z_]+="[^"]*",?){5})')
PAIR = re.compile(r'([a-z_]+)="([^"]*)"')
REASONS = {"account_unusable": "PAYEE_ACCOUNT_ABNORMAL", "payee_did_not_confirm": "OVERDUE_CLOSE"}
STATES = {"accepted": "PROCESSING", "awaiting_payee": "WAIT_USER_CONFIRM", "succeeded": "SUCCESS"}
AUTHORISATION_SCHEMA = """
CREATE TABLE IF NOT EXISTS authorisation (
    no INTEGER PRIMARY KEY, out_no TEXT NOT NULL UNIQUE, openid TEXT NOT NULL, state TEXT NOT NULL
);
"""
BILL_HEAD = (
    "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额（元）,账户结余（元）,"
    "资金变更提交申请人,备注,业务凭证号"
)
SUMMARY_HEAD = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额"

OutNo = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{1,32}$")]
Words = Annotated[str, Meta(min_length=1, max_length=32)]


class Info(msgspec.Struct, frozen=True):
    """What the scene of a transfer asks to be told."""

    info_type: Words
    info_content: Words


class TransferBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transfer: to an `openid` who taps, or under an authorisation."""

    appid: str
    out_bill_no: OutNo
    transfer_scene_id: str
    transfer_amount: Annotated[int, Meta(ge=LEAST_FEN)]
    transfer_remark: Words
    transfer_scene_report_infos: Annotated[list[Info], Meta(min_length=1, max_length=4)]
    openid: str | None = None
    out_authorization_no: str | None = None
    user_name: str | None = None
    notify_url: str | None = None


class AuthorisationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask a payee to receive without a tap."""

    out_authorization_no: OutNo
    appid: str
    openid: str
    transfer_scene_id: str
    user_display_name: Words
    authorization_notify_url: str


class WechatWire:
    """Notices: one event each, its resource sealed with AES-256-GCM, the whole signed with RSA."""

    together = 1

    def __init__(self, key: RSAPrivateKey, names: dict[str, str]) -> None:
        self._key = key
        self._names = names
        self._forger: RSAPrivateKey | None = None

    def write(self, bodies: Sequence[bytes], *, forged: bool) -> Recorded:
        """A notice of an end; one of anything else is not written in this protocol."""
        (body,) = bodies
        event = msgspec.json.decode(body, type=Event)
        content = {
            "mch_id": self._names["merchant"],
            "out_bill_no": event.out_no,
            "transfer_bill_no": event.institution_no,
            "transfer_amount": event.amount_fen,
            "update_time": _moment(event.at),
            **_state(event.type.partition(".")[2], event.reason),
        }
        nonce, extra = secrets.token_hex(6), "mch_payment"
        cipher = AESGCM(self._names["notice_key"].encode())
        sealed = cipher.encrypt(nonce.encode(), msgspec.json.encode(content), extra.encode())
        notice = {
            "id": hashlib.sha256(event.id.encode()).hexdigest()[:32],
            "create_time": _moment(event.at),
            "resource_type": "encrypt-resource",
            "event_type": "MCHTRANSFER.BILL.FINISHED",
            "summary": "商家转账单据终态通知",
            "resource": {
                "original_type": extra,
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": base64.b64encode(sealed).decode(),
                "associated_data": extra,
                "nonce": nonce,
            },
        }
        raw = msgspec.json.encode(notice)
        return Recorded({"content-type": "application/json", **self.sign(raw, forged=forged)}, raw)

    def is_taken(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - WeChat reads the status only
        """200 or 204."""
        return status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}

    def tells(self, event: Event) -> bool:
        """WeChat tells of ends only."""
        return not event.type.endswith("awaiting_payee")

    def sign(self, body: bytes, *, forged: bool = False) -> dict[str, str]:
        """The headers that prove who wrote a body; a forger has a key, but not this one."""
        if forged and self._forger is None:
            self._forger = generate_private_key(65537, 2048)
        key = self._forger if forged and self._forger else self._key
        timestamp, nonce = str(int(clock.now().timestamp())), secrets.token_hex(16)
        return {
            "Wechatpay-Timestamp": timestamp,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Serial": self._names["platform_serial"],
            "Wechatpay-Signature": sign_rsa(key, f"{timestamp}\n{nonce}\n".encode() + body + b"\n"),
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        }


class Wechat:
    """The desk of WeChat."""

    wire: Wire

    def __init__(self, options: ChannelOptions, faults: FaultTable) -> None:
        self._url = options.url
        self._names = options.keys.names
        self._key = load_private_key(options.keys.private_key)
        self._customer_key = load_public_key(options.keys.customer_key)
        self._wire = WechatWire(self._key, self._names)
        self.wire = self._wire
        self.books = Institution(
            options.state_dir,
            faults,
            settle_s=options.settle_s,
            callback_url=options.callback_url,
            name="wechat",
            tells=self._wire.tells,
        )
        self._files: dict[str, bytes] = {}
        self._authorisations = Store(options.state_dir / "wechat-authorisations.sqlite", AUTHORISATION_SCHEMA)

    def refusal(self, request: web.Request, body: bytes) -> web.Response | None:
        """401 for what is not signed by the merchant, for these bytes, about now."""
        try:
            self._check(request, body)
        except BadSignature:
            return self._answer({"code": "SIGN_ERROR", "message": "签名错误"}, HTTPStatus.UNAUTHORIZED)
        return None

    def refused(self, refusal: Refusal) -> web.Response:
        """An error, signed."""
        return self._answer({"code": refusal.code, "message": refusal.code}, refusal.status)

    def routes(self) -> list[web.RouteDef]:
        """The pages of the protocol that are played."""
        bill, allowed = f"{ROOT}/transfer-bills", f"{ROOT}/user-confirm-authorization"
        return [
            web.post(bill, self.transfer),
            web.post(f"{bill}/transfer", self.transfer),
            web.get(f"{bill}/out-bill-no/{{out_no}}", self.query),
            web.post(f"{bill}/out-bill-no/{{out_no}}/cancel", self.cancel),
            web.post(allowed, self.ask_authorisation),
            web.get(f"{allowed}/out-authorization-no/{{out_no}}", self.query_authorisation),
            web.post(f"{allowed}/out-authorization-no/{{out_no}}/close", self.close_authorisation),
            web.post("/control/authorisations/confirm", self.confirm_authorisation),
            web.get("/v3/bill/fundflowbill", self.bill_link),
            web.get(FILE, self.bill_file),
        ]

    async def transfer(self, request: web.Request) -> web.Response:
        """Take a transfer. The same number with other content is refused."""
        body = self._read(await request.read(), TransferBody)
        taps = not request.path.endswith("/transfer")
        payee = body.openid if taps else self._openid_of(body.out_authorization_no)
        if body.appid != self._names["app"] or not payee:
            raise Refusal(HTTPStatus.BAD_REQUEST, "PARAM_ERROR")
        name = self._unseal(body.user_name) if body.user_name is not None else None
        if body.transfer_amount >= NAME_FROM_FEN and not name:
            raise Refusal(HTTPStatus.BAD_REQUEST, "PARAM_ERROR")
        order = Order(
            kind=Kind.TRANSFER,
            out_no=body.out_bill_no,
            amount_fen=body.transfer_amount,
            party=payee,
            content=msgspec.json.encode(msgspec.structs.replace(body, user_name=name)),
            callback_url=body.notify_url,
        )
        try:
            view = await self.books.take(order, "awaiting_payee" if taps else "accepted")
        except Refusal:
            raise Refusal(HTTPStatus.BAD_REQUEST, "ALREADY_EXISTS") from None
        content = _shown(view)
        if view.state == "awaiting_payee":
            content["package_info"] = f"mch_package_{hashlib.sha256(order.out_no.encode()).hexdigest()}"
        return self._answer({**content, "create_time": _moment(clock.now())})

    async def query(self, request: web.Request) -> web.Response:
        """How a transfer stands."""
        (view,) = await self.books.query(Kind.TRANSFER, [request.match_info["out_no"]])
        if view.state == "not_found":
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND")
        more = {"mch_id": self._names["merchant"], "appid": self._names["app"]}
        return self._answer(
            {**_shown(view), **more, "transfer_amount": view.amount_fen, "update_time": _moment(view.at)}
        )

    async def cancel(self, request: web.Request) -> web.Response:
        """Begin to cancel what nobody has confirmed."""
        (view,) = await self.books.close(Kind.TRANSFER, [request.match_info["out_no"]])
        if view.state == "not_found":
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND")
        if (view.state, view.reason) != ("failed", "closed"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_REQUEST")
        return self._answer({**_shown(view), "state": "CANCELING", "update_time": _moment(view.at)})

    async def ask_authorisation(self, request: web.Request) -> web.Response:
        """Ask; the same number again is the same asking."""
        body = self._read(await request.read(), AuthorisationBody)

        def ask(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO authorisation (out_no, openid, state) VALUES (?, ?, 'WAIT_USER_CONFIRM')"
                " ON CONFLICT DO NOTHING",
                (body.out_authorization_no, body.openid),
            )

        await self._authorisations.write(ask)
        return self._answer(self._authorisation(body.out_authorization_no))

    async def query_authorisation(self, request: web.Request) -> web.Response:
        """How an authorisation stands."""
        return self._answer(self._authorisation(request.match_info["out_no"]))

    async def close_authorisation(self, request: web.Request) -> web.Response:
        """End it."""
        return self._answer(await self._set_authorisation(request.match_info["out_no"], "CLOSED"))

    async def confirm_authorisation(self, request: web.Request) -> web.Response:
        """The payee agrees; unsigned, for it is their phone that does it."""
        out_no = msgspec.json.decode(await request.read())["out_no"]
        return self._answer(await self._set_authorisation(out_no, "TAKING_EFFECT"))

    async def bill_link(self, request: web.Request) -> web.Response:
        """Where a day's bill is, and the hash of it."""
        day = _day(request.query.get("bill_date", ""))
        raw = self._files[day.isoformat()] = self._bill(day)
        return self._answer(
            {
                "hash_type": "SHA1",
                "hash_value": hashlib.sha1(raw).hexdigest(),  # noqa: S324 - as WeChat does
                "download_url": f"{self._url}{FILE}?token={day.isoformat()}",
            }
        )

    async def bill_file(self, request: web.Request) -> web.Response:
        """The bill itself, unsigned."""
        raw = self._files.get(request.query.get("token", ""))
        if raw is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND")
        return web.Response(body=raw, content_type="text/plain")

    def _check(self, request: web.Request, body: bytes) -> None:
        found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        given = dict(PAIR.findall(found[1])) if found else {}
        timestamp, nonce = given.get("timestamp", ""), given.get("nonce_str", "")
        names = self._names["merchant"], self._names["serial"]
        if (given.get("mchid"), given.get("serial_no")) != names or not timestamp.isdecimal():
            raise BadSignature
        if abs(clock.now().timestamp() - int(timestamp)) > MAX_AGE.total_seconds():
            raise BadSignature
        message = f"{request.method}\n{request.path_qs}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"
        verify_rsa(self._customer_key, message, given.get("signature", ""))

    def _bill(self, day: date) -> bytes:
        lines, after = list[BillLine](), 0
        while page := self.books.bill(day, after):
            lines += page
            after = page[-1].seq
            if len(page) < BILL_PAGE:
                break
        rows, sums = [], {"收入": [0, 0], "支出": [0, 0]}
        for line in lines:
            name, direction = ("商家转账", "支出") if line.kind == "transfer" else ("商家转账退回", "收入")
            sums[direction][0] += 1
            sums[direction][1] += line.amount_fen
            moment = line.at.astimezone(clock.SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
            number, amount = line.institution_no, yuan_text(line.amount_fen)
            cells = (
                moment, number, f"F{line.seq}", name, name, direction, amount, "0.00", "system", "",
                line.out_no,
            )  # fmt: skip
            rows.append(",".join(f"`{cell}" for cell in cells))
        (ins, in_fen), (outs, out_fen) = sums.values()
        total = (len(lines), ins, yuan_text(in_fen), outs, yuan_text(out_fen))
        text = "\r\n".join([BILL_HEAD, *rows, SUMMARY_HEAD, ",".join(f"`{cell}" for cell in total), ""])
        return b"\xef\xbb\xbf" + text.encode()

    def _openid_of(self, out_authorization_no: str | None) -> str:
        row = self._find_authorisation(out_authorization_no or "")
        if row is None or row["state"] != "TAKING_EFFECT":
            raise Refusal(HTTPStatus.BAD_REQUEST, "NO_AUTH")
        return str(row["openid"])

    def _find_authorisation(self, out_no: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._authorisations.read(
            lambda db: db.execute("SELECT * FROM authorisation WHERE out_no = ?", (out_no,)).fetchone()
        )
        return row

    async def _set_authorisation(self, out_no: str, state: str) -> dict[str, str]:
        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE authorisation SET state = ? WHERE out_no = ? AND state <> 'CLOSED'", (state, out_no)
            )

        await self._authorisations.write(change)
        return self._authorisation(out_no)

    def _authorisation(self, out_no: str) -> dict[str, str]:
        row = self._find_authorisation(out_no)
        if row is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND")
        content = {"out_authorization_no": out_no, "state": str(row["state"])}
        if row["state"] == "WAIT_USER_CONFIRM":
            return {**content, "package_info": f"auth_package_{row['no']}"}
        return {**content, "authorization_id": f"{row['no']:020d}"}

    def _unseal(self, text: str) -> str:
        padding = OAEP(mgf=MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303 - theirs
        try:
            return self._key.decrypt(base64.b64decode(text, validate=True), padding).decode()
        except ValueError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "PARAM_ERROR") from None

    def _read(self, raw: bytes, kind: type[Any]) -> Any:
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.DecodeError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "PARAM_ERROR") from None

    def _answer(self, content: object, status: int = HTTPStatus.OK) -> web.Response:
        raw = msgspec.json.encode(content)
        return web.Response(
            body=raw, status=status, headers=self._wire.sign(raw), content_type="application/json"
        )


def _shown(view: View) -> dict[str, Any]:
    """The state as WeChat words it. One still hidden is a system error."""
    if view.state == "unknown":
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "SYSTEM_ERROR")
    number = {"out_bill_no": view.out_no, "transfer_bill_no": view.institution_no}
    return {**number, **_state(view.state, view.reason)}


def _state(state: str, reason: str | None) -> dict[str, str]:
    """A wallet knows no return by a bank: what comes back after all has failed."""
    if state in STATES:
        return {"state": STATES[state]}
    if reason == "closed":
        return {"state": "CANCELLED"}
    return {"state": "FAIL", "fail_reason": REASONS.get(reason or "", (reason or "unspecified").upper())}


def _moment(at: datetime | None) -> str:
    return (at or datetime.now(UTC)).astimezone(clock.SHANGHAI).isoformat(timespec="seconds")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_REQUEST") from None
