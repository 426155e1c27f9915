"""How the buyback refuses. `PUBLIC_PROBLEM` in rules.py says which line is told what."""

from quanhui.base.errors import Problem
from quanhui.vouchers import NotClaimable


class VoucherNotAccepted(NotClaimable):
    """Unknown, claimed, frozen, re-keyed, or held by someone else: told in the registry's own words."""


class CodeMalformed(Problem):
    """The text fits no published code format, or its check character is wrong."""

    code, status = "code-malformed", 409
    zh, en = "券码格式不正确", "This does not look like a voucher code"
    remedy_zh = "请对照券面逐位核对，或重新扫码。"
    remedy_en = "Compare it with the voucher character by character, or scan it."


class ProductMismatch(Problem):
    """The code does not fit the product that was named."""

    code, status = "product-mismatch", 409
    zh, en = "券码与所选券种不符", "The code does not belong to the product chosen"
    remedy_zh = "请重新选择券种，或留空由系统识别。"
    remedy_en = "Choose another product, or leave it out and let the platform recognise it."


class ProductNeeded(Problem):
    """The code fits several products and the platform cannot tell which."""

    code, status = "product-needed", 409
    zh, en = "请选择券种", "Say which product this is"
    remedy_zh = "该格式对应多个券种，请在提交时指定。"
    remedy_en = "The format fits several products; name one when you submit."


class DuplicateCode(Problem):
    """The same code stands twice in one submission."""

    code, status = "duplicate-code", 409
    zh, en = "同一次提交中券码重复", "The same code stands twice in this submission"
    remedy_zh = "请删除重复的券码。"
    remedy_en = "Remove the repeated code."


class VoucherExpired(Problem):
    """The last local day of the voucher has passed."""

    code, status = "voucher-expired", 409
    zh, en = "该券已过期", "This voucher has expired"
    remedy_zh = "可联系发行方了解是否支持延期或换卡。"
    remedy_en = "Ask the issuer whether it can be extended or replaced."


class VoucherEmpty(Problem):
    """Nothing is left on the voucher."""

    code, status = "voucher-empty", 409
    zh, en = "该券余额为零", "Nothing is left on this voucher"
    remedy_zh = "请换一张有余额的券。"
    remedy_en = "Use a voucher with a balance."


class ProductNotBought(Problem):
    """The rules do not allow this class of voucher to be bought back, or its face is over the limit."""

    code, status = "product-not-bought", 409
    zh, en = "该券种暂不回收", "Vouchers of this kind are not bought"
    remedy_zh = "按现行规定该类券不能回收，详见券种说明。"
    remedy_en = "The rules in force do not allow it; see the product page."


class TooNearExpiry(Problem):
    """Too few days are left to put the voucher into circulation again."""

    code, status = "too-near-expiry", 409
    zh, en = "该券临近到期，暂不回收", "Too near its expiry to be bought"
    remedy_zh = "建议尽快到门店使用。"
    remedy_en = "Better use it in a store soon."


class QuoteExpired(Problem):
    """The quote's time is over."""

    code, status = "quote-expired", 410
    zh, en = "报价已过期", "The quote has expired"
    remedy_zh = "请重新提交券码获取最新报价。"
    remedy_en = "Submit the vouchers again for a fresh quote."


class QuoteNotOpen(Problem):
    """The quote was already accepted, declined or replaced."""

    code, status = "quote-not-open", 409
    zh, en = "该报价已处理", "This quote has been dealt with"
    remedy_zh = "请刷新订单查看当前状态。"
    remedy_en = "Reload the order to see where it stands."


class MethodNotAllowed(Problem):
    """The chosen way of being paid is not open for these vouchers, or its particulars are missing."""

    code, status = "method-not-allowed", 409
    zh, en = "该收款方式不可用", "This way of being paid is not available"
    remedy_zh = "请从报价列出的方式中选择；收现金需选择本人收款账户，换商品需选择门店。"
    remedy_en = "Choose one the quote lists; cash needs a payee account of yours, goods need a store."


class PayeeNotVerified(Problem):
    """Cash goes only to an account in the verified name of the seller."""

    code, status = "payee-not-verified", 409
    zh, en = "请先完成实名认证并绑定本人收款账户", "Verify your name and add an account of your own first"
    remedy_zh = "在「我的」中完成实名认证，再添加同名收款账户。"
    remedy_en = "Verify your identity, then add a payee account in the same name."


class OrderNotOpen(Problem):
    """The order is not in a state in which this can be done."""

    code, status = "order-not-open", 409
    zh, en = "订单当前状态不支持此操作", "The order is past this"
    remedy_zh = "请刷新订单查看当前状态。"
    remedy_en = "Reload the order to see where it stands."


class StoredValueFull(Problem):
    """The seller's stored value would exceed the limit of the card rules; `room_fen` says what still fits."""

    code, status = "stored-value-full", 409
    zh, en = "储值余额将超过单用途卡限额", "Your stored value would exceed the limit of the card rules"
    remedy_zh = "请改选现金或商品，或先使用部分储值；完成实名后限额为 5,000 元。"
    remedy_en = "Choose cash or goods, or spend some first; with a verified name the limit is 5,000 yuan."
