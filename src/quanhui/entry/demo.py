"""`quanhui demo`: one voucher all the way, over real HTTP, told so that a newcomer understands it.

A seller sells two vouchers, one of our own issue and one of another issuer; is paid through the payment
institution; a buyer buys the first, shows its code, and spends part of it in a store; a clerk takes one
mistaken cent of it back. At the end an independent program checks the receipt, and the books must balance.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from quanhui.entry.client import Api, ApiProblem
from quanhui.entry.narrator import Narrator
from quanhui.entry.sequencer import signer_of
from quanhui.entry.settings import Settings
from quanhui.settlement import out_no_of

PATIENCE_S = 60
SPENT_SHARE = 3
MISTAKE_FEN = 100
CLERK, FINANCE = "clerk1", "finance"
LIVE_CLASSES = ("single_purpose_bearer", "single_purpose_registered")


EVENTS_ZH = {
    "buyback_accepted": "接受回收",
    "payout_sent": "发起出款",
    "payout_confirmed": "出款到账",
}


class DemoFailed(Exception):
    """The story could not be played to its end; the message says why and what to do."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `quanhui demo --json` prints. Money in fen; the trial balance must be 0."""

    order_id: str
    order_state: str
    gross_fen: int
    fee_fen: int
    net_fen: int
    payout_state: str
    purchase_state: str
    price_fen: int
    redemption_state: str
    redeemed_fen: int
    reversed_fen: int
    trial_balance_fen: int
    proof_verified: bool
    events_proved: int
    seconds: str

    @property
    def all_well(self) -> bool:
        """Whether every promise of the story was kept."""
        return (
            self.order_state == "settled"
            and self.payout_state == "succeeded"
            and self.purchase_state == "paid"
            and self.redemption_state == "captured"
            and self.gross_fen == self.fee_fen + self.net_fen
            and self.trial_balance_fen == 0
            and self.proof_verified
        )


async def play(settings: Settings, summary: Mapping[str, Any], narrator: Narrator) -> Outcome:
    """Play the story against the running platform. Raises `DemoFailed`."""
    if not summary:
        raise DemoFailed("没有样例数据，请先运行 make run · no sample data: run `make run` first")
    try:
        async with aiohttp.ClientSession() as http:
            return await _Story(http, settings, summary, narrator).play()
    except aiohttp.ClientConnectionError as error:
        raise DemoFailed("平台未启动，请先运行 make run · nothing answers: run `make run` first") from error
    except ApiProblem as problem:
        raise DemoFailed(f"{problem} ({problem.code}) {problem.view.get('detail', '')}") from problem


class _Story:
    def __init__(
        self, http: aiohttp.ClientSession, settings: Settings, summary: Mapping[str, Any], narrator: Narrator
    ) -> None:
        self._http = http
        self._settings = settings
        self._summary = summary
        self._tell = narrator
        self._anyone = Api(http, f"http://{settings.http_host}:{settings.http_port}")
        self._operators = {operator["login"]: operator for operator in summary["operators"]}

    async def play(self) -> Outcome:
        began = time.monotonic()
        seller, buyer = await self._sign_in_people()
        order = await self._sell(seller)
        order = await self._accept(seller, order)
        payout = await self._get_paid(seller, order)
        finance = await self._anyone.sign_in_staff(self._operators[FINANCE])
        transfer = out_no_of(payout["id"], payout["attempts"])
        await self._show_postings(finance, order["id"], transfer)
        purchase, code = await self._buy(buyer, order)
        redemption = await self._redeem(code, purchase)
        proved = await self._prove(seller, order)
        order = await seller.get(f"/v1/buyback/orders/{order['id']}")
        trial = await self._balance(finance)
        return Outcome(
            order_id=order["id"],
            order_state=order["state"],
            gross_fen=order["quote"]["gross_fen"],
            fee_fen=order["quote"]["fee_fen"],
            net_fen=order["quote"]["net_fen"],
            payout_state=payout["state"],
            purchase_state=purchase["state"],
            price_fen=purchase["total_fen"],
            redemption_state=redemption["state"],
            redeemed_fen=redemption["captured_fen"],
            reversed_fen=redemption["reversed_fen"],
            trial_balance_fen=trial,
            proof_verified=proved > 0,
            events_proved=proved,
            seconds=f"{time.monotonic() - began:.1f}",
        )

    async def _sign_in_people(self) -> tuple[Api, Api]:
        seller, buyer = random.SystemRandom().sample(self._summary["sign_in_customers"], 2)
        self._tell.chapter("登录：短信验证码", "Signing in by a code on the phone")
        self._tell.say(
            f"出售人 {_masked(seller['phone'])}，受让人 {_masked(buyer['phone'])}",
            f"The seller is {_masked(seller['phone'])}, the buyer {_masked(buyer['phone'])}",
        )
        return await self._sign_in(seller["phone"]), await self._sign_in(buyer["phone"])

    async def _sign_in(self, phone: str) -> Api:
        try:
            return await self._anyone.sign_in_customer(phone, self._read_sms)
        except ApiProblem as problem:
            wait_s = problem.view.get("facts", {}).get("retry_after_s", PATIENCE_S + 1)
            if problem.code != "too-many-attempts" or wait_s > PATIENCE_S:
                raise
        self._tell.say(
            f"同一号码每分钟只发一次验证码，等待 {wait_s} 秒",
            f"One code a minute for each phone: waiting {wait_s} s",
        )
        await asyncio.sleep(wait_s + 1)
        return await self._anyone.sign_in_customer(phone, self._read_sms)

    async def _read_sms(self, phone: str) -> str:
        """The code as the phone shows it: the SMS sandbox plays the phone."""
        asked_at = time.time()
        for _ in range(100):
            url = f"{self._settings.sms_url}/control/messages"
            async with self._http.get(url, params={"to": phone}) as response:
                messages = await response.json()
            fresh = [message for message in messages if _instant(message["at"]) >= asked_at - 2]
            if fresh:
                return str(fresh[0]["params"]["code"])
            await asyncio.sleep(0.05)
        raise DemoFailed("验证码没有送达 · the code did not arrive: see the worker's log")

    async def _sell(self, seller: Api) -> dict[str, Any]:
        self._tell.chapter("提交券码，立即报价", "Two codes, and a quote at once")
        own = [code for code in self._summary["own_codes"] if code["legal_class"] in LIVE_CLASSES]
        outside = [code for code in self._summary["outside_codes"] if code["legal_class"] in LIVE_CLASSES]
        while own and outside:
            items = [{"code": own[0]["code"]}, {"code": _as_people_type(outside[0]["code"])}]
            order, refused = await self._offer(seller, items)
            if not refused:
                self._show_quote(order)
                return order
            own = own[1:] if 1 in refused else own
            outside = outside[1:] if len(items) in refused else outside
        raise DemoFailed("样例券已用完，请运行 make reset · the sample codes are used up: run `make reset`")

    async def _offer(self, seller: Api, items: list[dict[str, str]]) -> tuple[dict[str, Any], set[int]]:
        """Offer codes; the numbers of the lines that were refused, as used ones are, come with the order."""
        try:
            order = await seller.post("/v1/buyback/orders", {"items": items})
        except ApiProblem as problem:
            lines = problem.view.get("facts", {}).get("lines", [])
            if not lines:
                raise
            return {}, {line["number"] for line in lines}
        refused = {line["number"] for line in order["lines"] if line["problem"]}
        if refused:
            await seller.post(f"/v1/buyback/orders/{order['id']}/decline")
        return dict(order), refused

    def _show_quote(self, order: Mapping[str, Any]) -> None:
        for line in order["lines"]:
            name = self._tell.pick(line, "product")
            self._tell.say(
                f"{name} {line['masked_code']}，面值 {self._tell.money(line['face_fen'])}",
                f"{name} {line['masked_code']}, face {self._tell.money(line['face_fen'])}",
            )
            rows = [
                ("", self._tell.pick(each), self._tell.money(each["effect_fen"])) for each in line["reasons"]
            ]
            self._tell.table([("", ""), ("理由", "Reason"), ("金额", "Effect")], rows)
        quote = order["quote"]
        gross, fee, net = (self._tell.money(quote[name]) for name in ("gross_fen", "fee_fen", "net_fen"))
        self._tell.say(
            f"估值 {gross} − 服务费 {fee} = 到手 {net}", f"Value {gross} − fee {fee} = you get {net}"
        )

    async def _accept(self, seller: Api, order: Mapping[str, Any]) -> dict[str, Any]:
        self._tell.chapter("接受报价：权属转移", "Accepting: title passes")
        payee = (await seller.get("/v1/me/payees"))[0]
        accepted = await seller.post(
            f"/v1/buyback/orders/{order['id']}/accept",
            {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": payee["id"]},
        )
        self._tell.say(
            f"收款账户 {payee['account']}；他方发行的券先由发行方锁定，再换新码",
            f"To be paid to {payee['account']}; the outside voucher is locked, then re-keyed",
        )
        done = {"settling", "settled", "cancelled"}
        path = f"/v1/buyback/orders/{accepted['id']}"
        return dict(await seller.until(path, lambda each: each["state"] in done))

    async def _get_paid(self, seller: Api, order: Mapping[str, Any]) -> dict[str, Any]:
        self._tell.chapter("持牌机构出款", "Paid by the licensed institution")
        page = await seller.until(
            f"/v1/payouts?order_id={order['id']}",
            lambda each: bool(each["items"]) and each["items"][0]["state"] in {"succeeded", "failed", "held"},
        )
        detail = await seller.get(f"/v1/payouts/{page['items'][0]['id']}")
        for step in detail["timeline"]:
            self._tell.say(step["zh"], step["en"])
        return dict(detail["payout"])

    async def _show_postings(self, finance: Api, *subjects: str) -> None:
        self._tell.chapter("账本：借 → 贷", "The ledger: debit → credit")
        rows = []
        for subject in subjects:
            rows += [
                (
                    self._tell.word(EVENTS_ZH, posting["event"]),
                    _short(posting["src"]),
                    _short(posting["dst"]),
                    self._tell.money(posting["amount_fen"]),
                )
                for posting in await finance.get("/v1/ledger/postings", subject=subject)
            ]
        columns = [("事件", "Event"), ("借", "Debit"), ("贷", "Credit"), ("金额", "Amount")]
        self._tell.table(columns, rows)

    async def _buy(self, buyer: Api, order: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        self._tell.chapter("二次分发：上架、购买、揭码", "Sold again: listed, bought, revealed")
        line = order["lines"][0]
        path = f"/v1/market/listings?product={line['product_id']}&limit=100"
        page = await buyer.until(path, lambda each: any(_is_fresh(each, order) for each in each["items"]))
        listing = next(each for each in page["items"] if _is_fresh(each, order))
        price = self._tell.money(listing["price_fen"])
        value = self._tell.money(listing["value_fen"])
        self._tell.say(f"余额 {value} 的券挂售 {price}", f"A voucher worth {value} is listed at {price}")
        purchase = await buyer.post("/v1/market/purchases", {"listing_ids": [listing["id"]]})
        path = f"/v1/market/purchases/{purchase['id']}"
        purchase = await buyer.until(path, lambda each: each["payment_no"] is not None)
        url = f"{self._settings.institution_url}/control/payments/pay"
        async with self._http.post(url, json={"out_no": purchase["out_no"]}) as response:
            response.raise_for_status()
        purchase = await buyer.until(path, lambda each: each["state"] != "pending_payment")
        (revealed,) = await buyer.post(f"{path}/reveal", {})
        self._tell.say(
            f"付款到账后揭码：••••{revealed['code'][-4:]}（新码，原码已失效）",
            f"Revealed after payment: ••••{revealed['code'][-4:]} (a new code; the old one is dead)",
        )
        return dict(purchase), str(revealed["code"])

    async def _redeem(self, code: str, purchase: Mapping[str, Any]) -> dict[str, Any]:
        self._tell.chapter("门店核销一部分，再冲正一元", "Spent in part at a store, one yuan taken back")
        clerk = await self._anyone.sign_in_staff(self._operators[CLERK])
        amount = purchase["items"][0]["value_fen"] // SPENT_SHARE
        redemption = await clerk.post("/v1/redemptions", {"code": code, "amount_fen": amount})
        self._tell.say(
            f"{self._operators[CLERK]['store']} 核销 {self._tell.money(amount)}",
            f"Spent {self._tell.money(amount)} at {self._operators[CLERK]['store']}",
        )
        path = f"/v1/redemptions/{redemption['id']}"
        await clerk.post(f"{path}/reversals", {"amount_fen": MISTAKE_FEN, "reason": "收银员多收一元"})
        self._tell.say(
            f"冲正 {self._tell.money(MISTAKE_FEN)}，退回同一张券",
            f"{self._tell.money(MISTAKE_FEN)} goes back to the same voucher",
        )
        return dict(await clerk.get(path))

    async def _prove(self, seller: Api, order: Mapping[str, Any]) -> int:
        """The number of events that an independent program proved; 0 when it was not satisfied."""
        self._tell.chapter("任何人都能核验的存证", "Evidence that anyone can check")
        receipt = await seller.until(f"/v1/buyback/orders/{order['id']}/receipt", bool)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "receipt.json"
            file.write_bytes(msgspec.json.encode(receipt))
            checker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "quanhui.verifier", str(file), "--vkey",
                signer_of(self._settings).verifier_key, stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            well = await checker.wait() == 0
        count = len(receipt["events"])
        self._tell.verdict(
            f"独立核验程序：{count} 个事件均在签名的透明日志中，顺序完整",
            f"An independent program: all {count} events are in the signed log, in order",
            well=well,
        )
        return count if well else 0

    async def _balance(self, finance: Api) -> int:
        trial = await finance.get("/v1/ledger/trial-balance")
        off: int = abs(trial["total_fen"]) + abs(trial["clearing_fen"])
        off += abs(trial["client_fen"]) + abs(trial["platform_fen"])
        self._tell.verdict(
            f"试算平衡：两本账合计 {self._tell.money(trial['total_fen'])}",
            f"Trial balance: the two books add up to {self._tell.money(trial['total_fen'])}",
            well=off == 0,
        )
        return off


def _is_fresh(listing: Mapping[str, Any], order: Mapping[str, Any]) -> bool:
    """Whether a listing came from this order: ids sort by time."""
    return str(listing["id"]).split("_")[1] > str(order["id"]).split("_")[1]


def _as_people_type(code: str) -> str:
    """In groups of four, and the first in full width."""
    wide = "".join(chr(ord(character) + 0xFEE0) for character in code[:4])
    return wide + " " + " ".join(code[start : start + 4] for start in range(4, len(code), 4))


def _masked(phone: str) -> str:
    return f"{phone[:3]}****{phone[-4:]}"


def _short(account: str) -> str:
    """An account name with the middle of its id left out."""
    name, _, owner = account.partition(":")
    return f"{name}:{owner[:4]}…{owner[-4:]}" if "_" in owner else account


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
