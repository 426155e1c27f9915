"""A statement as a file, CSV or Excel: written in constant memory, of at most `EXPORT_LINES` lines.

Amounts are whole fen, so a sheet can add them up without a rounding.
"""

import asyncio
import csv
import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from enum import StrEnum
from typing import IO, TypeAlias

import xlsxwriter

from quanhui.base.db import Db
from quanhui.ledger.errors import StatementTooLong
from quanhui.ledger.history import EXPORT_LINES, Line, statement_lines, statement_over

HEADINGS = (
    "id",
    "recorded_at 记账时间",
    "event_at 发生时间",
    "event 事件",
    "subject 业务编号",
    "counterpart 对方账户",
    "delta_fen 发生额",
    "balance_fen 余额",
)
IN_MEMORY = 1 << 20
READ = 1 << 16

Cell: TypeAlias = str | int


class Format(StrEnum):
    """What file to write."""

    CSV = "csv"
    XLSX = "xlsx"


MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


async def export_statement(
    db: Db, code: str, *, since: datetime, until: datetime, form: Format, now: datetime
) -> IO[bytes]:
    """Write the statement of an account to a temporary file and return it; who reads it closes it.

    `db` is in a transaction with one snapshot. Raises `NotFound` or `StatementTooLong`.
    """
    told = await statement_over(db, code, since=since, until=until, now=now)
    if told.transfers > EXPORT_LINES:
        raise StatementTooLong(transfers=told.transfers, at_most=EXPORT_LINES)
    with ExitStack() as on_failure:
        file = on_failure.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        sheet = _Csv(file) if form is Format.CSV else _Xlsx(file)
        sheet.write([_end("opening 期初", told.since, told.opening_fen)])
        async for chunk in statement_lines(db, told):
            await asyncio.to_thread(sheet.write, [_cells(line) for line in chunk])
        sheet.write([_end("closing 期末", told.until, told.closing_fen)])
        await asyncio.to_thread(sheet.close)
        file.seek(0)
        on_failure.pop_all()
    return file


def read_out(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file piece by piece, closing it at the end."""
    with file:
        while piece := file.read(READ):
            yield piece


def _cells(line: Line) -> list[Cell]:
    return [
        line.id,
        line.created_at.isoformat(),
        line.event_at.isoformat(),
        line.event,
        line.subject,
        line.counterpart,
        line.delta_fen,
        line.balance_fen,
    ]


def _end(name: str, instant: datetime, balance_fen: int) -> list[Cell]:
    return ["", instant.isoformat(), "", name, "", "", "", balance_fen]


class _Csv:
    """Rows as text in UTF-8, with the mark by which Excel knows it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=True)
        self._rows = csv.writer(self._text)
        self._rows.writerow(HEADINGS)

    def write(self, rows: Iterable[list[Cell]]) -> None:
        self._rows.writerows(rows)

    def close(self) -> None:
        self._text.detach()


class _Xlsx:
    """Rows of a sheet, each flushed when the next begins; text is never taken for a formula or a link."""

    def __init__(self, file: IO[bytes]) -> None:
        options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        self._book = xlsxwriter.Workbook(file, options)
        self._sheet = self._book.add_worksheet("statement 明细")
        self._sheet.freeze_panes(1, 0)
        self._next = 0
        self.write([list(HEADINGS)])

    def write(self, rows: Iterable[list[Cell]]) -> None:
        for row in rows:
            self._sheet.write_row(self._next, 0, row)
            self._next += 1

    def close(self) -> None:
        self._book.close()
