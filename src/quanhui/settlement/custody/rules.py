"""The report: the client book seen from outside. Amounts in fen; everything adds up to what is held."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

import msgspec

CUSTODY: Final = "custody:"
IN_TRANSIT: Final = ("payout_pending",)
OWN: Final = "client:clearing"
WORDS: Final = {
    "user_payable": "应付用户款 Owed to customers",
    "stored_value": "用户储值 Stored value of customers",
    "merchant_settlement": "应付商户结算款 Owed to merchants",
    "unidentified_receipts": "待认领来款 Receipts not yet claimed",
    "payout_pending": "出款在途 Payouts on their way",
    "issuer_receivable": "应收发行方款 Due from issuers",
    "merchant_receivable": "应收商户款 Due from merchants",
}
"""What each line of the client book is called; one that is not here goes by its own name."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one institution holds by our mirror."""

    institution: str
    held_fen: int


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of what is owed, due or in transit."""

    kind: str
    words: str
    amount_fen: int


class CustodyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Custody at the end of a Shanghai day 存管报告.

    held + due = owed + in transit + own − uncovered. `difference_fen` is what is missing from that, 0 in
    order. `own_fen` is the platform's own money in custody; `uncovered_fen` what it has promised as principal
    and not yet moved there. Its own accounts hold no money of others: the ledger refuses to take it out.
    """

    day: date
    until: datetime
    institutions: list[Held]
    owed: list[Amount]
    in_transit: list[Amount]
    due: list[Amount]
    held_fen: int
    owed_fen: int
    in_transit_fen: int
    due_fen: int
    own_fen: int
    uncovered_fen: int
    difference_fen: int


def report_of(chart: Mapping[str, int], *, day: date, until: datetime) -> CustodyReport:
    """Arrange the client book, credits minus debits by name, as the report."""
    institutions = [
        Held(institution=name.removeprefix(CUSTODY), held_fen=-fen)
        for name, fen in chart.items()
        if name.startswith(CUSTODY)
    ]
    rest = {name: fen for name, fen in chart.items() if not name.startswith(CUSTODY) and name != OWN}
    in_transit = [_amount(name, fen) for name, fen in rest.items() if name in IN_TRANSIT]
    owed = [_amount(name, fen) for name, fen in rest.items() if name not in IN_TRANSIT and fen > 0]
    due = [_amount(name, -fen) for name, fen in rest.items() if name not in IN_TRANSIT and fen < 0]
    held_fen = sum(each.held_fen for each in institutions)
    owed_fen, in_transit_fen, due_fen = _sum(owed), _sum(in_transit), _sum(due)
    ours_fen = chart.get(OWN, 0)
    return CustodyReport(
        day=day,
        until=until,
        institutions=institutions,
        owed=owed,
        in_transit=in_transit,
        due=due,
        held_fen=held_fen,
        owed_fen=owed_fen,
        in_transit_fen=in_transit_fen,
        due_fen=due_fen,
        own_fen=max(ours_fen, 0),
        uncovered_fen=max(-ours_fen, 0),
        difference_fen=held_fen + due_fen - owed_fen - in_transit_fen - ours_fen,
    )


def lines_of(report: CustodyReport) -> list[tuple[str, str, int]]:
    """The report as lines of section, words and fen, for files."""
    return [
        *(("机构存管 Held", each.institution, each.held_fen) for each in report.institutions),
        *(("应付 Owed", each.words, each.amount_fen) for each in report.owed),
        *(("在途 In transit", each.words, each.amount_fen) for each in report.in_transit),
        *(("应收 Due", each.words, each.amount_fen) for each in report.due),
        ("合计 Sums", "机构存管合计 Held", report.held_fen),
        ("合计 Sums", "应付合计 Owed", report.owed_fen),
        ("合计 Sums", "在途合计 In transit", report.in_transit_fen),
        ("合计 Sums", "应收合计 Due", report.due_fen),
        ("合计 Sums", "平台自有 Own money of the platform", report.own_fen),
        ("合计 Sums", "平台待补足 Not covered yet", report.uncovered_fen),
        ("合计 Sums", "差额 Difference", report.difference_fen),
    ]


def _amount(name: str, amount_fen: int) -> Amount:
    return Amount(kind=name, words=WORDS.get(name, name), amount_fen=amount_fen)


def _sum(amounts: list[Amount]) -> int:
    return sum(each.amount_fen for each in amounts)
