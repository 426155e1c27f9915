"""The custody report as a file: CSV in fen to calculate with, PDF in yuan to read."""

import csv
import io

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle

from quanhui.base.money import yuan
from quanhui.settlement.custody.rules import CustodyReport, lines_of

FONT = "STSong-Light"


def as_csv(report: CustodyReport) -> bytes:
    """UTF-8 with a byte order mark, so that Excel reads the Chinese."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["day", "section", "item", "amount_fen"])
    writer.writerows((report.day.isoformat(), *line) for line in lines_of(report))
    return out.getvalue().encode("utf-8-sig")


def as_pdf(report: CustodyReport) -> bytes:
    """One table on A4."""
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    out = io.BytesIO()
    document = SimpleDocTemplate(out, pagesize=A4, title=f"资金存管报告 Custody report {report.day}")
    rows = [(section, item, yuan(fen)) for section, item, fen in lines_of(report)]
    table = LongTable([("类别 Section", "项目 Item", "金额（元）Yuan"), *rows], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("FONT", (0, 0), (-1, -1), FONT, 9),
                ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
                ("ALIGN", (2, 0), (2, -1), "RIGHT"),
            ]
        )
    )
    heading = ParagraphStyle("heading", fontName=FONT, fontSize=15, leading=22)
    plain = ParagraphStyle("plain", fontName=FONT, fontSize=9, leading=14)
    told = f"截至 {report.day.isoformat()} 日终（北京时间） At the end of the day in Shanghai"
    title = Paragraph("资金存管报告 Custody report", heading)
    document.build([title, Paragraph(told, plain), Spacer(1, 6 * mm), table])
    return out.getvalue()
