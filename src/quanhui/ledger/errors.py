"""What can be wrong with a posting that asks for nothing impossible."""

from quanhui.base.errors import Problem


class InsufficientBalance(Problem):
    """A guarded account would fall below its floor; `accounts` names which. Nothing was posted."""

    code, status = "insufficient-balance", 409
    zh, en = "账户可用余额不足", "The account lacks the balance"
    remedy_zh = "请核对可用余额后重试；本次未记任何账。"
    remedy_en = "Check the available balance and try again; nothing was posted."


class TransferKeyConflict(Problem):
    """A key was used before for another transfer; `keys` names which. Nothing was posted."""

    code, status = "transfer-key-conflict", 409
    zh, en = "该笔记账已以不同内容入账", "This entry was already posted with other content"
    remedy_zh = "请查询已入账的分录；如有错误，请冲正后重新记账。本次未记任何账。"
    remedy_en = "Look at the entry that stands; if it is wrong, reverse it and post anew. Nothing was posted."


class InsufficientHold(Problem):
    """More was asked for out of a hold than is left of it; `keys` names the holds. Nothing was posted."""

    code, status = "insufficient-hold", 409
    zh, en = "冻结余额不足", "Less than that is held"
    remedy_zh = "请核对剩余冻结金额后重试；本次未记任何账。"
    remedy_en = "Look at what is left of the hold and ask for no more; nothing was posted."


class HoldEnded(Problem):
    """All of a hold was captured, so nothing is left to release; `keys` names the holds."""

    code, status = "hold-ended", 409
    zh, en = "该冻结已全部划出", "Nothing of this hold is left"
    remedy_zh = "请查询相关分录；划出有误时请冲正。"
    remedy_en = "Look at the transfers it was captured by; reverse them if they are wrong."


class PeriodClosed(Problem):
    """A transfer says that it happened in a closed period; the books are closed until `closed_to`."""

    code, status = "period-closed", 409
    zh, en = "该会计期间已结账", "That period is closed"
    remedy_zh = "请记入当前期间；确需更正时，请申请重新开账并由另一人批准。"
    remedy_en = "Post it in the present, or have the period opened again, which takes a second person."


class PeriodNotOver(Problem):
    """A day or month can be closed only once it has ended in Shanghai."""

    code, status = "period-not-over", 409
    zh, en = "会计期间尚未结束", "That period is not over"
    remedy_zh = "请在该日或该月结束（北京时间）后结账。"
    remedy_en = "Close it after its last midnight in Shanghai."


class PeriodClosedBefore(Problem):
    """The books are already closed to the end of this period or beyond."""

    code, status = "period-closed-before", 409
    zh, en = "该期间已结账", "That period was closed before"
    remedy_zh = "无需再次结账；可查看已结账期间。"
    remedy_en = "There is nothing to do: look at the list of closed periods."


class PeriodNotLast(Problem):
    """Only the last closed period can be opened again: later closings build on it."""

    code, status = "period-not-last", 409
    zh, en = "只能重新打开最后一个已结账期间", "Only the last closed period can be opened again"
    remedy_zh = "请先重新打开其后的期间。"
    remedy_en = "Open the later periods first."


class LedgerBusy(Problem):
    """Postings stayed open for so long that the books could not be closed; nothing was changed."""

    code, status = "ledger-busy", 503
    zh, en = "账本正忙", "The ledger is busy"
    remedy_zh = "请稍后重试。"
    remedy_en = "Try again in a moment."


class StatementTooLong(Problem):
    """A statement has more lines than a file may hold: `transfers`, of `at_most`."""

    code, status = "statement-too-long", 409
    zh, en = "明细超过可导出的行数", "The statement is too long for one file"
    remedy_zh = "请缩短期间，分次导出。"
    remedy_en = "Ask for shorter periods, one after another."
