"""How settlement refuses."""

from quanhui.base.errors import Problem


class PayoutMoved(Problem):
    """The payout is not in a state in which this can be done; `payouts` names which."""

    code, status = "payout-moved", 409
    zh, en = "该笔出款的状态已变化，无法继续操作", "The payout has moved on; this can no longer be done"
    remedy_zh = "请刷新页面查看最新状态。"
    remedy_en = "Reload to see where the payout stands now."


class PayoutBlocked(Problem):
    """What blocks the payout cannot be approved away; `reasons` says what, by payout."""

    code, status = "payout-blocked", 409
    zh, en = "该笔出款暂不能放行", "The payout cannot go out yet"
    remedy_zh = "请先处理所列原因：完成实名并选择本人收款账户，或解除券的冻结。"
    remedy_en = (
        "Mend the reasons listed first: a verified name and an account of their own, or a frozen voucher."
    )


class OwnPayout(Problem):
    """Nobody approves money to themselves."""

    code, status = "own-payout", 403
    zh, en = "不能审批付给自己的款项", "You cannot approve a payout to yourself"
    remedy_zh = "请由其他有权限的人员审批。"
    remedy_en = "Ask someone else with this permission."


class CallbackRefused(Problem):
    """The callback's signature is missing, wrong or too old."""

    code, status = "callback-refused", 401
    zh, en = "回调签名无效", "The signature of the callback is not valid"
    remedy_zh = "请检查签名密钥与系统时间后重新发送。"
    remedy_en = "Check the shared secret and the clock, sign anew and send again."
