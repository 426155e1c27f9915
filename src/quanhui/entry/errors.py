"""Failures of the HTTP edge itself."""

from quanhui.base.errors import Problem


class BodyTooLarge(Problem):
    """The request body is larger than the platform reads."""

    code, status = "body-too-large", 413
    zh, en = "请求内容过大", "The request body is too large"
    remedy_zh = "请分批提交，每次最多 100 张券。"
    remedy_en = "Send smaller sets: at most 100 vouchers a call."


class UnsupportedMediaType(Problem):
    """A command came in something else than JSON."""

    code, status = "unsupported-media-type", 415
    zh, en = "仅支持 JSON 请求", "Send JSON"
    remedy_zh = "请将 Content-Type 设为 application/json。"
    remedy_en = "Set the Content-Type header to application/json."


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    code, status = "method-not-supported", 405
    zh, en = "该地址不支持此请求方法", "This path does not take that method"
    remedy_zh = "请查阅接口文档。"
    remedy_en = "See the API reference."


class PlatformBusy(Problem):
    """The database is away for a moment; nothing was changed unless the same key says so later."""

    code, status = "platform-busy", 503
    zh, en = "系统繁忙，请稍后重试", "The platform is busy; try again shortly"
    remedy_zh = "请稍后用同一个 Idempotency-Key 重试，不会重复处理。"
    remedy_en = "Retry with the same Idempotency-Key; nothing is processed twice."


class UnexpectedFailure(Problem):
    """A fault of ours. The reference finds it in the log; the answer says no more."""

    code, status = "unexpected-failure", 500
    zh, en = "系统出现异常，我们已记录", "Something broke on our side and was recorded"
    remedy_zh = "请稍后重试；如仍失败，请将参考号告知客服。"
    remedy_en = "Try again; if it stays, give support the reference."
