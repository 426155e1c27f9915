"""Failures of the evidence log that a caller can act on."""

from quanhui.base.errors import Problem


class ReceiptNotReady(Problem):
    """The newest event is not under a signed checkpoint yet; it will be within a second."""

    code, status = "receipt-not-ready", 409
    zh, en = "存证凭证正在生成", "The receipt is not ready yet"
    remedy_zh = "最新一步尚未写入已签名的检查点，请约一秒后重试。"
    remedy_en = "The latest step is not under a signed checkpoint yet; try again in about a second."


class ReceiptTooLarge(Problem):
    """More events than one receipt carries."""

    code, status = "receipt-too-large", 409
    zh, en = "凭证包含的事件过多", "Too many events for one receipt"
    remedy_zh = "请减少订单数量，或按单张券分别获取凭证。"
    remedy_en = "Ask for fewer orders at once, or for a receipt of each voucher."


class BeyondCheckpoint(Problem):
    """A proof was asked for a leaf or size that no signed checkpoint covers."""

    code, status = "beyond-checkpoint", 404
    zh, en = "所查位置超出已签名的存证范围", "No signed checkpoint reaches that far"
    remedy_zh = "叶序号须小于树的大小，树的大小不得超过最新检查点。"
    remedy_en = "A leaf index must be below the tree size, and the size within the latest checkpoint."
