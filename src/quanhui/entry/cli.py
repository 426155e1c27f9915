"""The command `quanhui`. Heavy imports stay inside the commands, so that `--help` is instant."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from quanhui import __version__
from quanhui.base.money import yuan
from quanhui.entry import settings as settings_module
from quanhui.entry.settings import Settings, SettingsError
from quanhui.entry.shell import shell

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False
)
app.add_typer(shell)
simulations = typer.Typer(no_args_is_help=True, help="Live through what may go wrong, by a seed. 仿真。")
app.add_typer(simulations, name="simulate")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

WRONG_SETTINGS = 2
SHOWN = 3
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def main() -> None:
    """Entry point: failures that a person can mend are told in a sentence, not as a traceback."""
    from quanhui.entry.database import DatabaseUnusable
    from quanhui.entry.postgres import PostgresFailed
    from quanhui.entry.supervisor import AlreadyRunning

    try:
        app()
    except SettingsError as error:
        err.print("[red]These settings cannot be used:[/]")
        for problem in error.problems:
            err.print(f"  • {escape(problem)}")
        sys.exit(WRONG_SETTINGS)
    except (AlreadyRunning, DatabaseUnusable, PostgresFailed) as error:
        _fail(str(error))


@app.command()
def run() -> None:
    """Run everything on this machine: database, sandboxes, API, worker, sequencer. 启动全部服务。"""
    from quanhui.entry import launch

    settings = _settings()

    def ready(summary: Mapping[str, Any]) -> None:
        _welcome(settings, summary)

    launch.run(settings, report=lambda line: out.print(f"[dim]·[/] {escape(line)}"), ready=ready)


@app.command()
def serve() -> None:
    """Serve the API. 提供接口服务。"""
    settings = _settings_with_database()
    from quanhui.entry import http

    http.serve(settings)


@app.command()
def worker() -> None:
    """Carry facts to the verbs that the story names. 后台任务。"""
    settings = _settings_with_database()
    from quanhui.entry import worker as module

    module.run(settings)


@app.command()
def sequencer() -> None:
    """Put events into the transparency log and sign checkpoints. 存证排序与签署。"""
    settings = _settings_with_database()
    from quanhui.entry import sequencer as module

    module.run(settings)


@app.command()
def migrate() -> None:
    """Bring the database schema up to date. 升级数据库结构。"""
    from quanhui.entry.database import connect, database_at_hand
    from quanhui.entry.migrations import migrate as apply

    async def work(url: str) -> list[str]:
        db = await connect(url)
        try:
            return await apply(db)
        finally:
            await db.close()

    with database_at_hand(_settings()) as url:
        for name in asyncio.run(work(url)):
            out.print(f"[green]✓[/] {name}")
    out.print("The schema is up to date.")


@app.command()
def sample(
    *,
    stores: Annotated[int | None, typer.Option(min=1, max=20_000, help="Stores of the group.")] = None,
    customers: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Customers.")] = None,
    vouchers: Annotated[int | None, typer.Option(min=1, max=10_000_000, help="Vouchers of our own.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same data.")] = None,
) -> None:
    """Load sample data into an empty development database. 载入样例数据。

    What is left out comes from the settings.
    """
    from quanhui.entry import launch
    from quanhui.entry.database import database_at_hand

    settings = _settings()
    if settings.in_production:
        _fail("sample data are for development only")
    given = {
        "sample_stores": stores,
        "sample_customers": customers,
        "sample_vouchers": vouchers,
        "sample_seed": seed,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    with database_at_hand(settings) as url:
        ready = msgspec.structs.replace(settings, database_url=url, **chosen)
        asyncio.run(launch.prepare(ready, report=out.print))
    _show_summary(settings, launch.read_summary(settings))


@app.command()
def demo(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    lang: Annotated[str, typer.Option(help="zh or en; left out, the language of the terminal.")] = "",
) -> None:
    """Play a voucher's whole story through the running API. 演示一张券的完整旅程。"""
    from quanhui.entry import demo as module, launch
    from quanhui.entry.narrator import Language, Narrator, terminal_language

    settings = _settings()
    language = Language(lang) if lang else terminal_language(os.environ)
    console = Console(highlight=False, quiet=as_json)
    try:
        outcome = asyncio.run(
            module.play(settings, launch.read_summary(settings), Narrator(console, language))
        )
    except (module.DemoFailed, TimeoutError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(msgspec.json.encode(outcome))
    raise typer.Exit(0 if outcome.all_well else 1)


@simulations.command("settlement")
def simulate_settlement(
    *,
    payouts: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many payouts.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same trace.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Pay through a channel that does its worst, on a database thrown away afterwards. 结算仿真。

    Ends with 1 if a payout moved money twice, one is stuck without a case, or reconciliation was wrong.
    """
    from quanhui.entry.simulating import run_settlement

    outcome = asyncio.run(run_settlement(payouts=payouts, seed=seed))
    if as_json:
        typer.echo(msgspec.json.encode(outcome))
    else:
        for name, value in msgspec.structs.asdict(outcome).items():
            _say_row(name, str(value))
    raise typer.Exit(0 if outcome.all_well else 1)


@app.command()
def rotate() -> None:
    """Seal every voucher code anew under the newest sealing key. 轮换券码加密密钥。

    Runs beside the platform, a thousand codes at a time, and may be stopped and started again. Keep
    the older keys in the settings until nothing is sealed under them: customers, payees and staff still are.
    """
    from quanhui import vouchers
    from quanhui.base.db import open_pool, transaction
    from quanhui.base.keyring import Keyring
    from quanhui.entry.database import database_at_hand

    settings = _settings()

    async def work(url: str) -> int:
        keyring = Keyring(settings.sealing_keys, settings.fingerprint_key)
        pool = await open_pool(url, size=1, application_name="quanhui-rotate")
        total = 0
        try:
            while True:
                async with transaction(pool) as db:
                    count = await vouchers.rotate_keys(db, keyring)
                if not count:
                    return total
                total += count
                err.print(f"[dim]{total:,}[/]", end="\r")
        finally:
            await pool.close()

    with database_at_hand(settings) as url:
        total = asyncio.run(work(url))
    out.print(f"[green]✓[/] {total:,} codes sealed anew under key {max(settings.sealing_keys)}")


@app.command()
def check() -> None:
    """Examine this installation: settings, database, books, queues. 自检。"""
    from quanhui.entry.database import connect, database_at_hand
    from quanhui.entry.doctor import examine

    settings = _settings()
    _say_finding("settings", well=True, detail=settings.environment.value)

    async def work(url: str) -> bool:
        db = await connect(url)
        try:
            _say_finding("database", well=True, detail=f"PostgreSQL {db.get_server_version().major}")
            all_well = True
            async for finding in examine(db, evidence_origin=settings.evidence_origin):
                _say_finding(finding.name, well=finding.well, detail=finding.detail, remedy=finding.remedy)
                all_well &= finding.well
            return all_well
        finally:
            await db.close()

    with database_at_hand(settings) as url:
        all_well = asyncio.run(work(url))
    raise typer.Exit(0 if all_well else 1)


@app.command()
def reset(*, yes: Yes = False) -> None:
    """Delete the embedded database, the logs and the sample for good. 清空全部数据。"""
    from quanhui.entry import launch

    settings = _settings()
    if settings.in_production or settings.database_url:
        _fail("reset only deletes an embedded development database")
    folder = settings.data_dir.resolve()
    if not yes:
        typer.confirm(f"Delete the database, logs and sample in {folder}?", abort=True)
    launch.reset(settings)
    out.print(f"Deleted what was in {escape(str(folder))}")


@app.command()
def secrets() -> None:
    """Print a fresh set of secrets for an environment file. Keep it safe. 生成一套密钥。"""
    for name, value in settings_module.fresh_secrets().items():
        typer.echo(f"{name}={value}")


@app.command()
def version() -> None:
    """Print the version. 显示版本。"""
    typer.echo(__version__)


def _settings() -> Settings:
    return settings_module.load(os.environ)


def _settings_with_database() -> Settings:
    from quanhui.entry.database import running_database_url
    from quanhui.entry.logging import set_up_logging

    settings = _settings()
    set_up_logging(as_json=settings.in_production, level=settings.log_level)
    return msgspec.structs.replace(settings, database_url=running_database_url(settings))


def _welcome(settings: Settings, summary: Mapping[str, Any]) -> None:
    out.print(f"\n[bold]Quanhui 券汇 {__version__} is running.[/] Ctrl-C stops it.\n")
    _say_row("API", f"{settings.public_base_url}/docs")
    _say_row("health", f"{settings.public_base_url}/health")
    _say_row("logs", str(settings.data_dir / "log"))
    _show_summary(settings, summary)


def _show_summary(settings: Settings, summary: Mapping[str, Any]) -> None:
    """A few accounts and codes to try; the rest stands in the file."""
    if not summary:
        return
    out.print("\n[bold]To try[/] (`make demo`, in a second terminal, plays a voucher's whole story)\n")
    for customer in summary["sign_in_customers"][:SHOWN]:
        _say_row("customer", f"{customer['phone']}  {customer.get('enterprise') or ''}")
    _say_row("", f"sign-in codes arrive at {settings.sms_url}/control/messages?to=<phone>", dim=True)
    for operator in summary["operators"][:SHOWN]:
        _say_row("staff", f"{operator['login']}  password {operator['password']}")
    for kind in ("own_codes", "outside_codes"):
        for code in summary[kind][:SHOWN]:
            _say_row("voucher", f"{code['code']}  {code['product']} {yuan(code['face_fen'])} 元")
    _say_row("", f"the rest is in {settings.data_dir / 'sample.json'}", dim=True)


def _say_row(name: str, text: str, *, dim: bool = False) -> None:
    style = "dim" if dim else "default"
    out.print(f"  [dim]{name:<9}[/] [{style}]{escape(text.rstrip())}[/]")


def _say_finding(name: str, *, well: bool, detail: str, remedy: str = "") -> None:
    sign = "[green]✓[/]" if well else "[red]✗[/]"
    advice = f" → {remedy}" if remedy and not well else ""
    out.print(f"{sign} {name}: {escape(detail + advice)}")


def _fail(message: str) -> NoReturn:
    err.print(f"[red]✗[/] {escape(message)}")
    sys.exit(1)
