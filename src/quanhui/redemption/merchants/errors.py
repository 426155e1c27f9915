"""How merchant settlement refuses."""

from quanhui.base.errors import Problem


class StatementMoved(Problem):
    """The statement, or its dispute or transfer, is not where this can be done; `state` says where it is."""

    code, status = "statement-moved", 409
    zh, en = "结算单的状态已变化，无法继续操作", "The statement has moved on; this can no longer be done"
    remedy_zh = "请刷新页面查看结算单的最新状态。"
    remedy_en = "Reload to see where the statement stands now."


class LineDisputed(Problem):
    """The line has a dispute that is not settled yet; `dispute_id` names it."""

    code, status = "line-disputed", 409
    zh, en = "该明细已有处理中的异议", "This line is disputed already"
    remedy_zh = "请在原异议中查看进展。"
    remedy_en = "Follow the dispute that is open."


class BankReferenceUsed(Problem):
    """The bank's reference stands for another transfer."""

    code, status = "bank-reference-used", 409
    zh, en = "该银行流水号已登记", "This bank reference is recorded already"
    remedy_zh = "请核对银行回单；一笔转账只能登记一次。"
    remedy_en = "Check the bank's receipt: a transfer is recorded once."


class ContractOverlaps(Problem):
    """The merchant has a contract from that day, or statements are drawn for it already."""

    code, status = "contract-overlaps", 409
    zh, en = "该日期的合同费率已生效或已存在", "A contract for that day exists or is in use"
    remedy_zh = "请选择今天之后、且没有其他合同开始的日期。"
    remedy_en = "Choose a day after today on which no other contract begins."


class StatementTooLong(Problem):
    """The file would have more lines than it can hold; `most_lines` says how many it can."""

    code, status = "too-many-statement-lines", 409
    zh, en = "结算单明细过多，无法生成该格式的文件", "The statement has too many lines for this kind of file"
    remedy_zh = "请下载 Excel，或通过接口分页读取明细。"
    remedy_en = "Download the Excel file, or read the lines page by page."
