"""How redistribution refuses."""

from quanhui.base.errors import Problem


class ListingTaken(Problem):
    """Some listings are not for sale now: reserved, sold, taken down or expired. `listings` names them."""

    code, status = "listing-taken", 409
    zh, en = "所选的券已被预占或下架", "A chosen voucher is no longer for sale"
    remedy_zh = "请刷新列表，另选其他券。您未被扣款。"
    remedy_en = "Reload the list and choose others. Nothing was charged."


class TooManyReserved(Problem):
    """The buyer already holds as many unpaid listings as one buyer may; `most` says how many."""

    code, status = "too-many-reserved", 409
    zh, en = "您未付款的预占已达上限", "You hold too many unpaid reservations"
    remedy_zh = "请先支付或取消已有的购买，再选购其他券。"
    remedy_en = "Pay or cancel what you hold, then choose more."


class NotListable(Problem):
    """Some stock cannot be put up for sale or taken down now; `listings` names it."""

    code, status = "not-listable", 409
    zh, en = "部分库存券当前无法上架或下架", "Some stock cannot be listed or delisted now"
    remedy_zh = "请核对券的状态：冻结、已预占、已售或已过期的券不可操作。"
    remedy_en = "Check where the vouchers stand: frozen, reserved, sold or expired ones cannot be changed."


class PriceAboveValue(Problem):
    """A price is above what is left on the voucher; `listings` names them."""

    code, status = "price-above-value", 409
    zh, en = "售价高于券的可用余额", "The price is above the voucher's available value"
    remedy_zh = "请把售价设为不高于可用余额。"
    remedy_en = "Set a price no higher than the available value."


class NotCancellable(Problem):
    """The purchase does not wait for a payment any more; `state` says where it stands."""

    code, status = "purchase-not-cancellable", 409
    zh, en = "该购买已无法取消", "This purchase can no longer be cancelled"
    remedy_zh = "已付款的购买请在担保期内申请售后。"
    remedy_en = "If it is paid, complain within the guarantee period."


class NotRevealable(Problem):
    """The codes cannot be shown: not paid for, frozen, in dispute, or passed on to someone else."""

    code, status = "code-not-revealable", 409
    zh, en = "券码当前不可查看", "The code cannot be shown now"
    remedy_zh = "请确认付款已完成；如券被冻结或在售后处理中，请联系客服。"
    remedy_en = "Make sure that the payment is final; if the voucher is frozen or disputed, contact support."


class NotDisputable(Problem):
    """The guarantee is over, or the listing was complained about before; `listings` names which."""

    code, status = "not-disputable", 409
    zh, en = "该券已不在可申请售后的范围内", "This sale can no longer be disputed"
    remedy_zh = "担保期自首次查看券码起计算；逾期请联系客服协助处理。"
    remedy_en = "The guarantee runs from the first reveal; after it, ask support to help."


class NotInDispute(Problem):
    """There is no open dispute about the listing."""

    code, status = "not-in-dispute", 409
    zh, en = "该券没有待处理的售后申请", "No dispute is open about this sale"
    remedy_zh = "请刷新页面查看处理结果。"
    remedy_en = "Reload to see what was decided."
