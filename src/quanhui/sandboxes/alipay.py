"""Alipay transfers, played over their own wire: forms signed with RSA2, answers signed over their node.

Takes a form in the body or in the query, as clients differ. An identity that begins with `nobody` is
nobody's account. What a fault hides is answered with code 20000.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from msgspec import Meta

from quanhui.base import clock
from quanhui.base.money import fen_of, yuan_text
from quanhui.base.rsa import load_private_key, load_public_key, sign_rsa, verify_rsa
from quanhui.base.signing import MAX_AGE, BadSignature
from quanhui.sandboxes.callbacks import Event, Recorded, Wire
from quanhui.sandboxes.channel import ChannelOptions
from quanhui.sandboxes.faults import FaultTable
from quanhui.sandboxes.institution import BILL_PAGE, BillLine, Institution, Kind, Order, View
from quanhui.sandboxes.store import Refusal

TIME = "%Y-%m-%d %H:%M:%S"
STATES = {"accepted": "DEALING", "awaiting_payee": "DEALING", "succeeded": "SUCCESS", "returned": "REFUND"}
REASONS = {"account_unusable": "PAYEE_NOT_EXIST", "name_mismatch": "PAYEE_USER_INFO_ERROR"}
BILL_HEAD = (
    "账务流水号,业务流水号,商户订单号,商品名称,发生时间,对方账号,收入金额（+元）,支出金额（-元）,账户余额（元）,"
    "交易渠道,业务类型,备注"
)

OutNo = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Words = Annotated[str, Meta(min_length=1, max_length=128)]


class Payee(msgspec.Struct, frozen=True, kw_only=True):
    """Who is paid; the name must be theirs."""

    identity: Words
    identity_type: Words
    name: Words


class TransferContent(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer; the amount is text in yuan."""

    out_biz_no: OutNo
    trans_amount: str
    product_code: Words
    biz_scene: Words
    order_title: Words
    payee_info: Payee


class AlipayWire:
    """Notices: a signed form each, answered with the word `success`."""

    together = 1

    def __init__(self, key: RSAPrivateKey, app: str) -> None:
        self._key = key
        self._app = app
        self._forger: RSAPrivateKey | None = None

    def write(self, bodies: Sequence[bytes], *, forged: bool) -> Recorded:
        """A notice that a transfer changed."""
        (body,) = bodies
        event = msgspec.json.decode(body, type=Event)
        content = {
            "out_biz_no": event.out_no,
            "order_id": event.institution_no,
            "pay_fund_order_id": f"P{event.institution_no}",
            "trans_amount": yuan_text(event.amount_fen),
            "action_type": "FINISH",
            **_state(event.type.partition(".")[2], event.reason),
        }
        parameters = {
            "notify_id": hashlib.sha256(event.id.encode()).hexdigest()[:34],
            "utc_timestamp": str(int(clock.now().timestamp() * 1000)),
            "msg_method": "alipay.fund.trans.order.changed",
            "app_id": self._app,
            "version": "1.1",
            "charset": "utf-8",
            "biz_content": msgspec.json.encode(content).decode(),
        }
        if forged and self._forger is None:
            self._forger = generate_private_key(65537, 2048)
        key = self._forger if forged and self._forger else self._key
        signed = {**parameters, "sign": sign_rsa(key, _to_sign(parameters)), "sign_type": "RSA2"}
        return Recorded(
            {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, urlencode(signed).encode()
        )

    def is_taken(self, status: int, body: bytes) -> bool:
        """The word, and nothing else."""
        return status == HTTPStatus.OK and body == b"success"

    def tells(self, event: Event) -> bool:
        """Alipay waits for no payee, so it tells of none who is awaited."""
        return not event.type.endswith("awaiting_payee")


class Alipay:
    """The desk of Alipay."""

    wire: Wire

    def __init__(self, options: ChannelOptions, faults: FaultTable) -> None:
        self._url = options.url
        self._app = options.keys.names["app"]
        self._key = load_private_key(options.keys.private_key)
        self._customer_key = load_public_key(options.keys.customer_key)
        wire = AlipayWire(self._key, self._app)
        self.wire = wire
        self._files: dict[str, bytes] = {}
        self.books = Institution(
            options.state_dir,
            faults,
            settle_s=options.settle_s,
            callback_url=options.callback_url,
            name="alipay",
            tells=wire.tells,
        )

    def refusal(self, request: web.Request, body: bytes) -> web.Response | None:
        """An answer, unsigned, for a form that the application has not signed just now."""
        if request.path != "/gateway.do":
            return None
        try:
            self._check(_form(request, body))
        except (ValueError, BadSignature):
            content = {"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.invalid-signature"}
            return web.json_response({"error_response": content})
        return None

    def refused(self, refusal: Refusal) -> web.Response:
        """Only the download of a bill refuses so; the gateway answers in its own way."""
        return web.Response(status=refusal.status)

    def routes(self) -> list[web.RouteDef]:
        """One gateway for all methods, and the files of bills."""
        return [
            web.post("/gateway.do", self.gateway),
            web.get("/gateway.do", self.gateway),
            web.get("/download", self.bill_file),
        ]

    async def gateway(self, request: web.Request) -> web.Response:
        """Do what `method` says."""
        given = _form(request, await request.read())
        methods: Mapping[str, Callable[[dict[str, str]], Coroutine[Any, Any, dict[str, Any]]]] = {
            "alipay.fund.trans.uni.transfer": self._transfer,
            "alipay.fund.trans.common.query": self._query,
            "alipay.data.dataservice.bill.downloadurl.query": self._bill_link,
        }
        name = given.get("method", "")
        try:
            content = {"code": "10000", "msg": "Success", **await methods[name](given)}
        except Refusal as no:
            unclear = no.code == "ACQ.SYSTEM_ERROR"
            content = {"code": "20000" if unclear else "40004", "msg": "Failed", "sub_code": no.code}
        except (msgspec.DecodeError, ValueError, KeyError):
            content = {"code": "40004", "msg": "Business Failed", "sub_code": "INVALID_PARAMETER"}
        node = msgspec.json.encode(content)
        signature = sign_rsa(self._key, node)
        key = name.replace(".", "_") + "_response"
        body = b'{"' + key.encode() + b'":' + node + b',"sign":"' + signature.encode() + b'"}'
        return web.Response(body=body, content_type="application/json")

    async def bill_file(self, request: web.Request) -> web.Response:
        """A bill, by the token in its address."""
        raw = self._files.get(request.query.get("token", ""))
        if raw is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND")
        return web.Response(body=raw, content_type="application/zip")

    async def _transfer(self, given: dict[str, str]) -> dict[str, Any]:
        content = msgspec.json.decode(given["biz_content"], type=TransferContent)
        amount_fen = fen_of(content.trans_amount)
        if amount_fen < 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER")
        if content.payee_info.identity.startswith("nobody"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "PAYEE_NOT_EXIST")
        order = Order(
            kind=Kind.TRANSFER,
            out_no=content.out_biz_no,
            amount_fen=amount_fen,
            party=content.payee_info.identity,
            content=msgspec.json.encode(content),
            callback_url=given.get("notify_url"),
        )
        return {**_shown(await self.books.take(order, "accepted")), "trans_date": _moment(clock.now())}

    async def _query(self, given: dict[str, str]) -> dict[str, Any]:
        out_no = msgspec.json.decode(given["biz_content"], type=dict[str, str])["out_biz_no"]
        (view,) = await self.books.query(Kind.TRANSFER, [out_no])
        if view.state == "not_found":
            raise Refusal(HTTPStatus.NOT_FOUND, "ORDER_NOT_EXIST")
        shown = _shown(view)
        assert view.amount_fen is not None
        return {**shown, "trans_amount": yuan_text(view.amount_fen)}

    async def _bill_link(self, given: dict[str, str]) -> dict[str, Any]:
        text = msgspec.json.decode(given["biz_content"], type=dict[str, str])["bill_date"]
        self._files[text] = self._bill(date.fromisoformat(text))
        return {"bill_download_url": f"{self._url}/download?token={text}"}

    def _check(self, given: dict[str, str]) -> None:
        signature = given.pop("sign", "")
        at = datetime.strptime(given.get("timestamp", ""), TIME).replace(tzinfo=clock.SHANGHAI)
        age_s = abs((clock.now() - at).total_seconds())
        if given.get("app_id") != self._app or age_s > MAX_AGE.total_seconds():
            raise BadSignature
        verify_rsa(self._customer_key, _to_sign(given), signature)

    def _bill(self, day: date) -> bytes:
        lines, after = list[BillLine](), 0
        while page := self.books.bill(day, after):
            lines += page
            after = page[-1].seq
            if len(page) < BILL_PAGE:
                break
        rows, sums = [], {"支出": [0, 0], "收入": [0, 0]}
        for line in lines:
            amount, out = yuan_text(line.amount_fen), line.kind == "transfer"
            direction = "支出" if out else "收入"
            sums[direction][0] += 1
            sums[direction][1] += line.amount_fen
            came, went = ("", f"-{amount}") if out else (amount, "")
            cells = (
                f"F{line.seq}", line.institution_no, line.out_no, "回收款", _moment(line.at), "", came, went,
                "0.00", "支付宝", "转账" if out else "转账退回", "",
            )  # fmt: skip
            rows.append(",".join(f"{cell}\t" for cell in cells))
        (outs, out_fen), (ins, in_fen) = sums.values()
        text = "\r\n".join(
            [
                "#支付宝账务明细查询",
                BILL_HEAD,
                *rows,
                f"#支出合计：{outs}笔，共-{yuan_text(out_fen)}元",
                f"#收入合计：{ins}笔，共{yuan_text(in_fen)}元",
                "",
            ]
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{day:%Y%m%d}_账务明细.csv", text.encode("gb18030"))
        return packed.getvalue()


def _form(request: web.Request, body: bytes) -> dict[str, str]:
    return {**request.query, **dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))}


def _to_sign(parameters: Mapping[str, str]) -> bytes:
    return "&".join(f"{name}={parameters[name]}" for name in sorted(parameters)).encode()


def _shown(view: View) -> dict[str, Any]:
    if view.state == "unknown":
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "ACQ.SYSTEM_ERROR")
    number = {"out_biz_no": view.out_no, "order_id": view.institution_no}
    return {**number, **_state(view.state, view.reason)}


def _state(state: str, reason: str | None) -> dict[str, str]:
    more = {"error_code": REASONS.get(reason, reason.upper())} if reason else {}
    return {"status": STATES.get(state, "FAIL"), **more}


def _moment(at: datetime) -> str:
    return at.astimezone(clock.SHANGHAI).strftime(TIME)
