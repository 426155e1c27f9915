"""How reconciliation refuses."""

from quanhui.base.errors import Problem


class CaseMoved(Problem):
    """The case is not in a state in which this can be done; `cases` names which."""

    code, status = "case-moved", 409
    zh, en = "该差错的状态已变化，无法继续操作", "The case has moved on; this can no longer be done"
    remedy_zh = "请刷新页面查看最新状态。"
    remedy_en = "Reload to see where the case stands now."


class BillNotReady(Problem):
    """The day is not over yet, so there is no bill of it."""

    code, status = "bill-not-ready", 409
    zh, en = "该日账单尚未生成", "There is no bill of this day yet"
    remedy_zh = "账单在次日 10:00（北京时间）后生成，请届时再试。"
    remedy_en = "Bills are ready after 10:00 Shanghai time on the next day."


class UnknownChannel(Problem):
    """No such channel is connected; `channels` names those that are."""

    code, status = "unknown-channel", 404
    zh, en = "没有该支付通道", "There is no such channel"
    remedy_zh = "请使用所列通道之一。"
    remedy_en = "Use one of the channels listed."


class NotStopped(Problem):
    """Payouts are not stopped, so there is nothing to lift."""

    code, status = "not-stopped", 409
    zh, en = "当前未停付", "Payouts are not stopped"
    remedy_zh = "无需恢复。"
    remedy_en = "Nothing needs to be lifted."
