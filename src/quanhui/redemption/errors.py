"""How redemption refuses."""

from quanhui.base.errors import Problem
from quanhui.redemption.rules import Refusal


class VoucherNotUsable(Problem):
    """The code is not accepted here and now. The public answer is one for all reasons (invariant 16).

    `refusal` keeps the reason inside; None when it is on record already.
    """

    code, status = "voucher-not-usable", 409
    zh, en = "该券无法在此使用", "This voucher cannot be used here"
    remedy_zh = "请核对券码、有效期与适用门店；如仍有疑问，请持券人在订单中查询或联系客服。"
    remedy_en = "Check the code, the expiry and where it is valid; its holder can ask support."

    def __init__(self, refusal: Refusal | None = None) -> None:
        super().__init__()
        self.refusal = refusal


class AmountTooHigh(Problem):
    """More was asked for than is left; `available_fen` says how much that is."""

    code, status = "amount-too-high", 409
    zh, en = "核销金额超过券的可用余额", "The amount is more than the voucher has left"
    remedy_zh = "请按可用余额核销，差额用其他方式支付。"
    remedy_en = "Redeem what is left and take the rest in another way."


class WholeValueOnly(Problem):
    """The product is spent in one go; `available_fen` says for how much."""

    code, status = "whole-value-only", 409
    zh, en = "该券须一次用完", "This voucher is spent whole"
    remedy_zh = "该券种不支持部分核销；请按全部可用余额核销，或换一张券。"
    remedy_en = "It cannot be spent in parts: redeem all that is left, or use another voucher."


class TillReferenceUsed(Problem):
    """The till already has a redemption under this reference; `redemption_id` names it."""

    code, status = "till-reference-used", 409
    zh, en = "该收银流水号已有核销记录", "This till reference already has a redemption"
    remedy_zh = "请先查询该笔核销，切勿重复核销；新的交易请使用新的流水号。"
    remedy_en = "Look at that redemption before redeeming again; a new sale needs a new reference."


class NotAuthorised(Problem):
    """The redemption is not waiting to be captured or voided; `state` says where it stands."""

    code, status = "redemption-not-authorised", 409
    zh, en = "该笔核销不在待扣款状态", "This redemption is not waiting to be captured"
    remedy_zh = "请查询该笔核销的最新状态；如已过期，请重新核销。"
    remedy_en = "See where it stands; if it lapsed, redeem again."


class NotReversible(Problem):
    """Not so much can be taken back, or nothing any more; `reversible_fen` says how much can."""

    code, status = "redemption-not-reversible", 409
    zh, en = "该笔核销无法按此金额冲正", "This redemption cannot be reversed for this amount"
    remedy_zh = "冲正金额不得超过未冲正的核销金额；券已转手的，请用其他方式退款。"
    remedy_en = "At most what was captured can be reversed; once passed on, refund in another way."
