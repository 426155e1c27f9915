"""How the registry refuses."""

from quanhui.base.errors import Problem


class NotClaimable(Problem):
    """Some vouchers cannot be claimed now: someone was first, or they are frozen, spent or expired.

    The public answer is one for all reasons (invariant 16).
    """

    code, status = "voucher-not-accepted", 409
    zh, en = "该券暂时无法受理", "This voucher cannot be accepted"
    remedy_zh = "请核对券码与券种；如确认无误，可在订单中提交申诉。"
    remedy_en = "Check the code and the product; if both are right, appeal from the order."


class CustodyChanged(Problem):
    """A voucher is not where the operation needs it, for example frozen or already sold."""

    code, status = "voucher-moved", 409
    zh, en = "该券的状态已变化，无法继续操作", "The voucher has moved on; this can no longer be done"
    remedy_zh = "请刷新页面查看该券的最新状态。"
    remedy_en = "Reload to see where the voucher stands now."


class CannotSpend(Problem):
    """Not enough left, expired, frozen or not with its holder."""

    code, status = "voucher-cannot-be-spent", 409
    zh, en = "该券当前无法使用该金额", "This voucher cannot be used for this amount"
    remedy_zh = "请核对余额与有效期，或换一张券。"
    remedy_en = "Check the balance and the expiry, or use another voucher."
