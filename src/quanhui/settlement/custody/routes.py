"""The custody report over HTTP, for finance, compliance and audit, who hand it to supervisors."""

import asyncio
from datetime import date
from enum import StrEnum
from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from quanhui import ledger
from quanhui.base.access import Scope, needs
from quanhui.base.clock import end_of_local_day, local_day
from quanhui.base.db import Db
from quanhui.base.errors import MalformedRequest
from quanhui.base.web import Call
from quanhui.settlement.custody import files
from quanhui.settlement.custody.rules import CustodyReport, report_of

READ = needs("ledger.read", Scope.ALL)

Day = Annotated[
    str | None,
    QueryParameter(pattern=r"^\d{4}-\d{2}-\d{2}$", description="Shanghai day, as 2026-11-22; today without."),
]


class FileKind(StrEnum):
    """What the report can be downloaded as."""

    CSV = "csv"
    PDF = "pdf"


@get("/custody/report", opt=READ, operation_id="get_custody_report", tags=["custody"])
async def get_report(call: NamedDependency[Call], day: Day = None) -> Response[CustodyReport]:
    """Show the custody report 资金存管报告

    At the end of a Shanghai day, or of today so far: what each institution holds, what is owed to whom by
    kind, what is on its way, and what the difference is.
    """
    return Response(await _report(call, day))


@get(
    "/custody/report/file",
    opt=READ,
    operation_id="download_custody_report",
    tags=["custody"],
    media_type="application/pdf",
)
async def download_report(
    call: NamedDependency[Call],
    day: Day = None,
    file_kind: Annotated[FileKind, QueryParameter(name="as", description="CSV or PDF.")] = FileKind.PDF,
) -> Response[bytes]:
    """Download the custody report 下载资金存管报告

    CSV in fen, or PDF in yuan.
    """
    report = await _report(call, day)
    is_pdf = file_kind is FileKind.PDF
    content = await asyncio.to_thread(files.as_pdf if is_pdf else files.as_csv, report)
    return Response(
        content,
        media_type="application/pdf" if is_pdf else "text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="custody-{report.day}.{file_kind}"'},
    )


async def _report(call: Call, text: str | None) -> CustodyReport:
    try:
        day = date.fromisoformat(text) if text else local_day(call.now)
        until = end_of_local_day(day)
    except (ValueError, OverflowError):
        raise MalformedRequest(field="day") from None

    async def read(db: Db) -> CustodyReport:
        return report_of(await ledger.chart_at(db, until=until), day=day, until=until)

    return await call.query(read)


handlers: list[HTTPRouteHandler] = [get_report, download_report]
