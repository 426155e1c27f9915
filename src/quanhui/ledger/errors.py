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
