"""A failure the caller can act on: one class each, carrying facts, mapped to HTTP once.

Every domain lists its own in `errors.py`. The set of all subclasses is the catalogue that
`docs/reference/problems.md` is generated from, so a problem without an explanation cannot exist.
"""

from typing import ClassVar


class Problem(Exception):
    """A refusal or failure with a stable `type`, told in Chinese and English (RFC 9457).

    Subclasses set `code` (the stable part of the type URI), the HTTP `status`, a title in each
    language, and `remedy_*`: what the reader can do now. `facts` go into the response as they are,
    so they never hold a code, a phone number or another secret.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    zh: ClassVar[str]
    en: ClassVar[str]
    remedy_zh: ClassVar[str]
    remedy_en: ClassVar[str]

    def __init__(self, **facts: object) -> None:
        super().__init__(self.code)
        self.facts = facts


def all_problems() -> list[type[Problem]]:
    """Every concrete problem that has been imported, by code."""
    found: dict[str, type[Problem]] = {}
    pending = list(Problem.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if "code" in vars(kind):
            assert found.setdefault(kind.code, kind) is kind, f"two problems share the code {kind.code}"
    return [found[code] for code in sorted(found)]


class NotFound(Problem):
    """No such thing, or not for this caller: the two look alike on purpose."""

    code, status = "not-found", 404
    zh, en = "未找到该内容", "Nothing here by that name"
    remedy_zh = "请检查编号；若属于他人，您无权查看。"
    remedy_en = "Check the id; what belongs to others is not shown."


class Forbidden(Problem):
    """The caller is known but lacks the permission that the route declares."""

    code, status = "forbidden", 403
    zh, en = "您没有执行此操作的权限", "You may not do this"
    remedy_zh = "请联系管理员授予相应角色。"
    remedy_en = "Ask an administrator for a role with this permission."


class SecondPersonNeeded(Problem):
    """Who did the first half of something that takes two people cannot do the second."""

    code, status = "second-person-needed", 403
    zh, en = "须由另一人复核", "A second person has to do this"
    remedy_zh = "请由未经手过此事、且有权限的人员复核。"
    remedy_en = "Ask someone with this permission who has had no hand in it."


class Unauthenticated(Problem):
    """No credentials, or they are wrong, expired or revoked."""

    code, status = "unauthenticated", 401
    zh, en = "请先登录", "Sign in first"
    remedy_zh = "登录后重试；登录可能已过期或被注销。"
    remedy_en = "Sign in and try again; the session may have expired or been revoked."


class MalformedRequest(Problem):
    """The payload cannot be read as what the route documents."""

    code, status = "malformed-request", 422
    zh, en = "请求内容格式不正确", "The request is malformed"
    remedy_zh = "请按接口文档检查所列字段。"
    remedy_en = "Check the listed fields against the API reference."


class TooManyAttempts(Problem):
    """A limit on attempts was reached; `retry_after_s` says when to come back."""

    code, status = "too-many-attempts", 429
    zh, en = "尝试次数过多，请稍后再试", "Too many attempts"
    remedy_zh = "请在提示的时间后再试。"
    remedy_en = "Wait for the time given, then try again."


class IdempotencyKeyMissing(Problem):
    """A command came without an `Idempotency-Key` header."""

    code, status = "idempotency-key-missing", 400
    zh, en = "缺少 Idempotency-Key 请求头", "The Idempotency-Key header is missing or malformed"
    remedy_zh = "每个操作请附带唯一键(1–128 个可见字符),重试时使用同一个键。"
    remedy_en = "Send a unique key (1–128 visible characters) with each command and repeat it on a retry."


class IdempotencyKeyReused(Problem):
    """The key was used before with another body or on another route."""

    code, status = "idempotency-key-reused", 409
    zh, en = "该 Idempotency-Key 已用于其他请求", "This Idempotency-Key belongs to another request"
    remedy_zh = "新的操作请使用新的键；重试请保持请求内容不变。"
    remedy_en = "Use a new key for a new command; repeat the body unchanged on a retry."


class OutsideUnavailable(Problem):
    """An outside party (issuer, bank, SMS) did not answer in time; nothing was changed."""

    code, status = "outside-unavailable", 503
    zh, en = "外部机构暂时无法响应", "An outside party is not answering"
    remedy_zh = "请稍后用同一个键重试，不会重复处理。"
    remedy_en = "Retry later with the same key; nothing is processed twice."
