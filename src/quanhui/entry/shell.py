"""The path of a voucher from the command line: each command is one call of the API.

Codes are bearer secrets, so they are never arguments (which end up in the shell's history and in the list of
processes): they are asked for, or read from a file or a pipe.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quanhui.base.clock import SHANGHAI
from quanhui.base.money import yuan
from quanhui.entry import settings as settings_module
from quanhui.entry.settings import Settings

shell = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

SELL = "Selling 出售"
BUY = "Buying 购买"
SPEND = "Spending 核销"
PERSON = "Signing in 登录"

CodesFile = Annotated[
    typer.FileText | None,
    typer.Option("--from", help="A file with one code a line, or - for a pipe. Left out, you are asked."),
]
Answer = TypeVar("Answer")


@shell.command(rich_help_panel=PERSON)
def login(
    phone: Annotated[str, typer.Option(help="A customer's phone number.")] = "",
    staff: Annotated[str, typer.Option(help="An operator's login.")] = "",
) -> None:
    """Sign in as a customer by phone code, or as staff. 登录。"""
    if bool(phone) == bool(staff):
        _fail("give --phone or --staff")

    async def work(api: Any) -> str:
        if phone:
            await api.post("/v1/auth/customer/code", {"phone": phone})
            code = typer.prompt("Code from the message 短信验证码")
            answer = await api.post("/v1/auth/customer/sign-in", {"phone": phone, "code": code})
        else:
            proof = {
                "login": staff,
                "password": typer.prompt("Password 口令", hide_input=True),
                "one_time_password": typer.prompt("One-time password 动态口令"),
            }
            answer = await api.post("/v1/auth/staff/sign-in", proof)
        return str(answer["token"])

    token = _call(work)
    file = _token_file(_settings())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(token)
    out.print("[green]✓[/] Signed in 已登录")


@shell.command(rich_help_panel=PERSON)
def logout() -> None:
    """Sign out here and end the session. 退出登录。"""
    _call(lambda api: api.post("/v1/auth/sign-out"))
    _token_file(_settings()).unlink(missing_ok=True)
    out.print("[green]✓[/] Signed out 已退出")


@shell.command(rich_help_panel=SELL)
def sell(
    codes_file: CodesFile = None,
    product: Annotated[str, typer.Option(help="Id of the product; left out, it is recognised.")] = "",
) -> None:
    """Offer up to 100 codes and get a quote at once. 提交券码，立即报价。"""
    codes = _read_codes(codes_file)
    items = [{"code": code, **({"product_id": product} if product else {})} for code in codes]
    _show_order(_call(lambda api: api.post("/v1/buyback/orders", {"items": items})))


@shell.command(rich_help_panel=SELL)
def accept(
    order: str,
    method: Annotated[str, typer.Option(help="cash, stored_value or goods.")] = "cash",
    payee: Annotated[str, typer.Option(help="For cash: your account; left out, the first you have.")] = "",
    store: Annotated[str, typer.Option(help="For goods: where you fetch them.")] = "",
) -> None:
    """Accept the quote of an order. 接受报价。"""

    async def work(api: Any) -> Any:
        found = await api.get(f"/v1/buyback/orders/{order}")
        if found["quote"] is None:
            _fail("this order has no quote 该订单没有报价")
        choice = {"quote_id": found["quote"]["id"], "method": method}
        if method == "cash":
            payees = await api.get("/v1/me/payees")
            choice["payee_id"] = payee or (payees[0]["id"] if payees else "")
        if store:
            choice["store_id"] = store
        return await api.post(f"/v1/buyback/orders/{order}/accept", choice)

    _show_order(_call(work))


@shell.command(rich_help_panel=SELL)
def decline(order: str) -> None:
    """Decline the quote of an order. 放弃报价。"""
    _show_order(_call(lambda api: api.post(f"/v1/buyback/orders/{order}/decline")))


@shell.command(rich_help_panel=SELL)
def orders() -> None:
    """List your newest orders. 我的回收单。"""
    page = _call(lambda api: api.get("/v1/buyback/orders"))
    rows = [(each["id"], each["state"], len(each["lines"]), _net_of(each)) for each in page["items"]]
    _show_table(("Order 订单", "State 状态", "Vouchers 张数", "You get 到手"), rows)


@shell.command(rich_help_panel=SELL)
def order(order: str) -> None:
    """Show one order. 查看回收单。"""
    _show_order(_call(lambda api: api.get(f"/v1/buyback/orders/{order}")))


@shell.command(rich_help_panel=SELL)
def payouts() -> None:
    """List your newest payouts. 我的出款。"""
    page = _call(lambda api: api.get("/v1/payouts"))
    rows = [
        (each["id"], f"{each['state_zh']} {each['state_en']}", each["method"], yuan(each["amount_fen"]))
        for each in page["items"]
    ]
    _show_table(("Payout 出款", "State 状态", "Method 方式", "Amount 金额"), rows)


@shell.command(rich_help_panel=BUY)
def market(
    text: Annotated[str, typer.Option(help="Part of a product's name.")] = "",
    category: Annotated[str, typer.Option(help="Such as supermarket.")] = "",
) -> None:
    """See what is for sale. 挂售列表。"""
    page = _call(lambda api: api.get("/v1/market/listings", text=text or None, category=category or None))
    rows = [
        (
            each["id"],
            each["product_zh"],
            each["masked_code"],
            yuan(each["value_fen"]),
            yuan(each["price_fen"]),
        )
        for each in page["items"]
    ]
    _show_table(("Listing 挂售", "Product 券种", "Code 券码", "Worth 余额", "Price 售价"), rows)


@shell.command(rich_help_panel=BUY)
def buy(listings: list[str]) -> None:
    """Reserve listings; pay at the institution within the time shown. 购买。"""
    _show_purchase(_call(lambda api: api.post("/v1/market/purchases", {"listing_ids": listings})))


@shell.command(rich_help_panel=BUY)
def purchase(purchase: str) -> None:
    """Show a purchase and how to pay for it. 查看购买。"""
    _show_purchase(_call(lambda api: api.get(f"/v1/market/purchases/{purchase}")))


@shell.command(rich_help_panel=BUY)
def pay(purchase: str) -> None:
    """Pay for a purchase as the buyer's phone would; only where the institution is the sandbox. 模拟付款。"""
    import aiohttp

    settings = _settings()
    if settings.in_production:
        _fail("只有沙箱可以代付 · only the sandbox plays the buyer's phone")
    found = _call(lambda api: api.get(f"/v1/market/purchases/{purchase}"))

    async def play() -> bool:
        url = f"{settings.institution_url}/control/payments/pay"
        async with aiohttp.ClientSession() as http, http.post(url, json={"out_no": found["out_no"]}) as paid:
            return paid.ok

    if not asyncio.run(play()):
        _fail("支付机构未收到这笔付款单 · the institution does not know of it yet: try again in a second")
    out.print(
        f"[green]✓[/] Paid 已付款；几秒后可揭码 · reveal it in a few seconds: quanhui reveal {purchase}"
    )


@shell.command(rich_help_panel=BUY)
def reveal(purchase: str) -> None:
    """Show the codes you bought. 揭码。"""
    codes = _call(lambda api: api.post(f"/v1/market/purchases/{purchase}/reveal", {}))
    _show_table(("Listing 挂售", "Code 券码"), [(each["listing_id"], each["code"]) for each in codes])


@shell.command(rich_help_panel=SPEND)
def redeem(
    codes_file: CodesFile = None,
    amount: Annotated[int, typer.Option(help="In fen; left out, everything on the voucher.")] = 0,
) -> None:
    """Spend a voucher at your store (desk clerks). 门店核销。"""
    (code,) = _read_codes(codes_file)
    body = {"code": code, **({"amount_fen": amount} if amount else {})}
    _show_redemption(_call(lambda api: api.post("/v1/redemptions", body)))


@shell.command(rich_help_panel=SPEND)
def reverse(
    redemption: str,
    amount: Annotated[int, typer.Option(help="In fen.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
) -> None:
    """Take a redemption back, or a part of it. 冲正。"""
    body = {"amount_fen": amount, "reason": reason}
    path = f"/v1/redemptions/{redemption}"

    async def work(api: Any) -> Any:
        await api.post(f"{path}/reversals", body)
        return await api.get(path)

    _show_redemption(_call(work))


@shell.command(rich_help_panel=SELL)
def receipt(
    order: str, file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("receipt.json")
) -> None:
    """Write the receipt of an order to a file. 下载存证回执。"""
    found = _call(lambda api: api.get(f"/v1/buyback/orders/{order}/receipt"))
    file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    out.print(f"[green]✓[/] {escape(str(file))}: {len(found['events'])} events 个事件")


@shell.command(rich_help_panel=SELL)
def verify(
    file: Path,
    vkey: Annotated[str, typer.Option(help="The log's verifier key; left out, this platform's own.")] = "",
) -> None:
    """Check a receipt with the independent verifier. 核验存证回执。"""
    from quanhui.entry.sequencer import signer_of

    key = vkey or signer_of(_settings()).verifier_key
    checker = [sys.executable, "-m", "quanhui.verifier", str(file), "--vkey", key]
    raise typer.Exit(subprocess.run(checker, check=False).returncode)  # noqa: S603 - our own program


def _call(work: Callable[[Any], Awaitable[Answer]]) -> Answer:
    """One call of the API as whoever is signed in; a problem is told with what to do about it."""
    import aiohttp

    from quanhui.entry.client import Api, ApiProblem

    settings = _settings()
    file = _token_file(settings)
    token = file.read_text().strip() if file.exists() else None

    async def run() -> Answer:
        async with aiohttp.ClientSession() as http:
            return await work(Api(http, f"http://{settings.http_host}:{settings.http_port}", token))

    try:
        return asyncio.run(run())
    except ApiProblem as problem:
        wait_s = problem.view.get("facts", {}).get("retry_after_s")
        wait = f"\n  {wait_s} 秒后再试 · try again in {wait_s} s" if wait_s else ""
        _fail(f"{problem}\n  {problem.view.get('detail', '')}\n  {problem.view.get('detail_en', '')}{wait}")
    except aiohttp.ClientConnectionError:
        _fail("平台未启动 · nothing answers: start it with `quanhui run`")


def _settings() -> Settings:
    return settings_module.load(os.environ)


def _token_file(settings: Settings) -> Path:
    return settings.data_dir / "cli-session"


def _read_codes(file: Any) -> list[str]:
    lines = file.read().splitlines() if file else [typer.prompt("Code 券码", hide_input=True)]
    codes = [line.strip() for line in lines if line.strip()]
    return codes or _fail("no code given 没有券码")


def _net_of(order: Mapping[str, Any]) -> str:
    return yuan(order["quote"]["net_fen"]) if order["quote"] else "–"


def _show_order(order: Mapping[str, Any]) -> None:
    out.print(f"[bold]{order['id']}[/] {order['state']}")
    rows = [
        (
            line["number"],
            line["product_zh"] or "",
            line["masked_code"],
            yuan(line["gross_fen"]),
            yuan(line["fee_fen"]),
            yuan(line["net_fen"]),
            f"{line['problem']['title']} {line['problem']['title_en']}" if line["problem"] else "",
        )
        for line in order["lines"]
    ]
    _show_table(("#", "Product 券种", "Code 券码", "Value 估值", "Fee 服务费", "Net 到手", ""), rows)
    if order["quote"] and order["quote"]["state"] == "issued":
        until = _local(order["quote"]["expires_at"])
        out.print(
            f"You get 到手 [bold]{_net_of(order)}[/] 元, until 有效至 {until}: quanhui accept {order['id']}"
        )


def _show_purchase(purchase: Mapping[str, Any]) -> None:
    out.print(f"[bold]{purchase['id']}[/] {purchase['state']} {yuan(purchase['total_fen'])} 元")
    if purchase["state"] == "pending_payment":
        out.print(f"Pay under 付款单号 {purchase['out_no']}, by 最晚 {_local(purchase['reserved_until'])}")
        if not _settings().in_production:
            out.print(f"Or play the buyer's phone 模拟付款: quanhui pay {purchase['id']}")


def _local(instant: str) -> str:
    """An instant of the API as people here read it."""
    return f"{datetime.fromisoformat(instant).astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"


def _show_redemption(redemption: Mapping[str, Any]) -> None:
    spent, back = yuan(redemption["captured_fen"]), yuan(redemption["reversed_fen"])
    out.print(f"[bold]{redemption['id']}[/] {redemption['state']}: spent 核销 {spent}, reversed 冲正 {back}")


def _show_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for position, name in enumerate(columns):
        # Ids stand first and are there to be copied: a narrow terminal shortens the rest.
        longest = max((len(str(row[0])) for row in rows), default=0)
        table.add_column(name, min_width=longest if position == 0 else None)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


def _fail(message: str) -> NoReturn:
    err.print(f"[red]✗[/] {escape(message)}")
    raise SystemExit(1)
