"""A statement as a file to keep: PDF to read and sign, Excel to calculate with, in Chinese and English."""

import io
from collections.abc import Sequence

import xlsxwriter
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle

from quanhui.base.clock import SHANGHAI
from quanhui.base.money import yuan
from quanhui.redemption.merchants.rules import Line, LineKind, Statement

FONT = "STSong-Light"
"""A font that every reader of Chinese PDF has: named in the file, not embedded."""

KINDS = {
    LineKind.REDEMPTION: "核销 Redemption",
    LineKind.REVERSAL: "冲正 Reversal",
    LineKind.GOODS: "兑货 Goods",
    LineKind.CAMPAIGN: "营销分担 Campaign",
    LineKind.CORRECTION: "更正 Correction",
}
HEADINGS = ("时间 Time", "类别 Kind", "业务编号 Subject", "金额 Amount", "费用 Fee", "净额 Net")


def as_pdf(statement: Statement, lines: Sequence[Line], *, merchant: str) -> bytes:
    """The statement as PDF, A4; amounts in yuan."""
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    out = io.BytesIO()
    title = f"商户结算单 Merchant statement {statement.id}"
    document = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=15 * mm, rightMargin=15 * mm, title=title, author="Quanhui 券汇"
    )
    heading = ParagraphStyle("heading", fontName=FONT, fontSize=15, leading=22)
    plain = ParagraphStyle("plain", fontName=FONT, fontSize=9, leading=14)
    small = TableStyle(
        [
            ("FONT", (0, 0), (-1, -1), FONT, 7.5),
            ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
            ("ALIGN", (3, 0), (-1, -1), "RIGHT"),
        ]
    )
    sums = LongTable([[name, yuan(fen)] for name, fen in _sums(statement)], hAlign="LEFT")
    sums.setStyle(TableStyle([("FONT", (0, 0), (-1, -1), FONT, 9), ("ALIGN", (1, 0), (1, -1), "RIGHT")]))
    rows = [list(HEADINGS), *([*words, *map(yuan, amounts)] for words, amounts in map(_cells, lines))]
    table = LongTable(rows, repeatRows=1, colWidths=[w * mm for w in (31, 32, 57, 20, 18, 20)])
    table.setStyle(small)
    document.build(
        [
            Paragraph("商户结算单 Merchant statement", heading),
            Paragraph(f"{merchant} / {statement.day.isoformat()} / {statement.id}", plain),
            Paragraph("金额单位：元 Amounts in yuan (CNY)", plain),
            Spacer(1, 4 * mm),
            sums,
            Spacer(1, 6 * mm),
            table,
        ]
    )
    return out.getvalue()


def as_xlsx(statement: Statement, lines: Sequence[Line], *, merchant: str) -> bytes:
    """The statement as a workbook: a sheet of sums, a sheet of lines. Amounts are whole fen."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False}) as book:
        bold, number = book.add_format({"bold": True}), book.add_format({"num_format": "#,##0"})
        sums = book.add_worksheet("汇总 Summary")
        sums.set_column(0, 0, 34)
        sums.set_column(1, 1, 36)
        head = [
            ("商户 Merchant", merchant),
            ("日期 Day", statement.day.isoformat()),
            ("编号 Statement", statement.id),
        ]
        for row, (name, text) in enumerate(head):
            sums.write_string(row, 0, name, bold)
            sums.write_string(row, 1, text)
        for row, (name, fen) in enumerate(_sums(statement), len(head)):
            sums.write_string(row, 0, f"{name} (分 fen)", bold)
            sums.write_number(row, 1, fen, number)
        sheet = book.add_worksheet("明细 Lines")
        sheet.set_column(0, 5, 22)
        sheet.freeze_panes(1, 0)
        for column, name in enumerate(HEADINGS):
            sheet.write_string(0, column, name if column < 3 else f"{name} (分 fen)", bold)  # noqa: PLR2004
        for row, (words, amounts) in enumerate(map(_cells, lines), 1):
            for column, text in enumerate(words):
                sheet.write_string(row, column, text)
            for column, fen in enumerate(amounts, len(words)):
                sheet.write_number(row, column, fen, number)
    return out.getvalue()


def _sums(statement: Statement) -> list[tuple[str, int]]:
    return [
        ("上期结转 Brought forward", statement.carried_gross_fen),
        ("上期结转费用 Fees brought forward", statement.carried_fee_fen),
        ("本日金额 Lines", statement.lines_gross_fen),
        ("本日费用 Fees", statement.lines_fee_fen),
        ("应结净额 Net", statement.net_fen),
    ]


def _cells(line: Line) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The words and the amounts of a line."""
    at = line.happened_at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
    words = (at, KINDS[line.kind], line.subject)
    return words, (line.amount_fen, line.fee_fen, line.amount_fen - line.fee_fen)
