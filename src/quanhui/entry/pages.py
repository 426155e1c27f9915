"""The few pages that are not the API: a front door, health, and what each problem means."""

from html import escape
from pathlib import Path
from typing import Annotated, Any

import swagger_ui
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.static_files import create_static_files_router
from msgspec import Struct

from quanhui import __version__
from quanhui.base.access import open_to_public
from quanhui.base.errors import NotFound, all_problems
from quanhui.entry.openapi import ASSETS, START, START_PATH
from quanhui.story import Desk

SWAGGER_FILES = Path(swagger_ui.__file__).parent / "static"

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fbfaf7; --line: #d9d4c7; --accent: #9c2f24 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece8df; --paper: #16191e; --line: #3a3f48; --accent: #f0a598 } }
* { box-sizing: border-box }
body { margin: 0; font: 17px/1.7 system-ui, "Noto Sans SC", "PingFang SC", "Microsoft YaHei", sans-serif;
       color: var(--ink); background: var(--paper) }
main { max-width: 42rem; margin: 0 auto; padding: 3rem 1.25rem }
h1 { font-size: 1.9rem; line-height: 1.3; margin: 0 0 .5rem }
a { color: var(--accent); text-underline-offset: .2em }
dl { border-top: 1px solid var(--line); margin: 2rem 0 0 }
dt { font-weight: 600; padding-top: 1rem } dd { margin: 0 0 1rem }
code { font-family: ui-monospace, monospace; font-size: .92em }
"""


class HealthView(Struct, frozen=True):
    """Whether this process can do its work."""

    status: str
    version: str


class ProblemPage(Struct, frozen=True):
    """What a problem type means, and what to do."""

    type: str
    status: int
    title: str
    title_en: str
    detail: str
    detail_en: str
    meaning: str


@get("/", opt=open_to_public(), include_in_schema=False, media_type=MediaType.HTML)
async def front_door() -> Response[str]:
    """Where to look."""
    entries = [
        (
            "/docs",
            "接口文档 API reference",
            "每个接口都有示例，可直接试用。Every route, with examples to try.",
        ),
        (
            "/health",
            "运行状况 Health",
            "数据库与本进程是否正常。Whether the database and this process are well.",
        ),
        (
            "/v1/evidence/checkpoint",
            "存证检查点 Checkpoint",
            "透明日志最新的签名树头，任何人都可核对。The newest signed tree head; anyone can check it.",
        ),
    ]
    items = "".join(
        f'<dt><a href="{escape(path)}">{escape(name)}</a></dt><dd>{escape(text)}</dd>'
        for path, name, text in entries
    )
    return Response(
        f'<!doctype html><html lang="zh-CN"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>券汇 Quanhui</title>'
        f"<style>{STYLE}</style><main><h1>券汇 Quanhui</h1>"
        f"<p>闲置购物券即时回收、当场付款、再次流通。<br>"
        f"Unused vouchers bought back, paid at once, put into circulation again.</p>"
        f"<dl>{items}</dl><p><small>{escape(__version__)}</small></p></main></html>",
        media_type=MediaType.HTML,
    )


@get("/health", opt=open_to_public(), operation_id="check_health", tags=["platform"])
async def health(request: Request[Any, Any, Any]) -> HealthView:
    """Check health 运行状况

    Whether this process reaches its database.
    """
    desk: Desk = request.app.state.desk
    await desk.pool.fetchval("SELECT 1")
    return HealthView("ok", __version__)


@get("/problems/{code:str}", opt=open_to_public(), operation_id="explain_problem", tags=["platform"])
async def explain_problem(
    code: Annotated[str, PathParameter(max_length=64, description="The last part of a problem's `type`.")],
) -> ProblemPage:
    """Explain a problem 错误说明

    What a problem type means, and what to do about it.
    """
    for problem in all_problems():
        if problem.code == code:
            return ProblemPage(
                type=f"/problems/{problem.code}",
                status=problem.status,
                title=problem.zh,
                title_en=problem.en,
                detail=problem.remedy_zh,
                detail_en=problem.remedy_en,
                meaning=(problem.__doc__ or "").strip(),
            )
    raise NotFound


@get(START_PATH, opt=open_to_public(), include_in_schema=False, media_type="text/javascript; charset=utf-8")
async def start_reference() -> str:
    """The script that opens the API reference: a file, because the content policy allows none in a page."""
    return START


handlers: list[HTTPRouteHandler | Any] = [
    front_door,
    start_reference,
    health,
    explain_problem,
    create_static_files_router(
        ASSETS, [SWAGGER_FILES], opt=open_to_public(), include_in_schema=False, name="docs-assets"
    ),
]
