"""Everything that can be set, in one frozen table, read from `QUANHUI_*` environment variables.

A field's type, limits and description in both languages stand beside its name; the reference page
docs/reference/settings.md is generated from them. In development, secrets that are not given come from a
seed that everyone can read here, so a clone runs as it is. Production takes none of that: `load` then
raises one `SettingsError` that lists every problem at once.
"""

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from quanhui.base.accounts import Account, AlipayAccount, WechatAccount
from quanhui.entry.development import channel_accounts, is_public

PREFIX = "QUANHUI_"
DEVELOPMENT_SEED = b"quanhui development: everyone knows this, never use it for anything real"
SECRET_BYTES = 32
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Environment(StrEnum):
    """Where the platform runs. Development may use public secrets and sandboxes; production may not."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class LogLevel(StrEnum):
    """The least important line that is still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SettingsError(Exception):
    """The settings cannot be used. `problems` holds one sentence for each variable to mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _about(en: str, zh: str, *, secret: bool = False, **limits: Any) -> Meta:
    return Meta(description=en, extra={"zh": zh, "secret": secret}, **limits)


def _secret(en: str, zh: str, *, longest: int | None = SECRET_BYTES) -> Meta:
    return _about(en, zh, secret=True, min_length=SECRET_BYTES, max_length=longest)


def _account(en: str, zh: str) -> Meta:
    return _about(
        en + " Without it production does not use the channel; development plays it.",
        zh + "不填时，生产环境不使用该渠道，开发环境使用沙箱。",
        secret=True,
    )


Key = Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One process's settings. Secrets are bytes here, base64 in the environment, and never in a repr."""

    environment: Annotated[
        Environment,
        _about("`development` or `production`.", "运行环境：development（开发）或 production（生产）。"),
    ] = Environment.DEVELOPMENT
    data_dir: Annotated[
        Path,
        _about(
            "Folder for the embedded database, logs and the sample summary.",
            "数据目录：内置数据库、日志和样例摘要。",
        ),
    ] = Path("var")
    database_url: Annotated[
        Annotated[str, Meta(pattern="^postgres(ql)?://")] | None,
        _about(
            "PostgreSQL 16 or newer. Unset: an embedded server in the data folder.",
            "PostgreSQL 16 及以上的连接地址；不填则在数据目录启动内置数据库。",
            secret=True,
        ),
    ] = None
    http_host: Annotated[str, _about("Address the API listens on.", "接口监听地址。", min_length=1)] = (
        "127.0.0.1"
    )
    http_port: Annotated[int, _about("Port the API listens on.", "接口监听端口。", ge=1, le=65535)] = 8700
    http_workers: Annotated[int, _about("API processes.", "接口进程数。", ge=1, le=256)] = 2
    http_pool_size: Annotated[
        int,
        _about("Database connections for each API process.", "每个接口进程的数据库连接数。", ge=2, le=200),
    ] = 16
    worker_pool_size: Annotated[
        int,
        _about(
            "Database connections of the worker that carries facts.",
            "后台任务进程的数据库连接数。",
            ge=2,
            le=200,
        ),
    ] = 12
    body_limit_bytes: Annotated[
        int, _about("Largest request body accepted.", "请求体大小上限（字节）。", ge=1024, le=100_000_000)
    ] = 2_000_000
    quote_ttl_s: Annotated[
        int, _about("How long a quote is open, in seconds.", "报价有效时间（秒）。", ge=60, le=86_400)
    ] = 600
    quote_ttl_elder_s: Annotated[
        int,
        _about(
            "How long a quote is open for older people, in seconds.",
            "长辈模式的报价有效时间（秒）。",
            ge=60,
            le=86_400,
        ),
    ] = 1_800
    public_base_url: Annotated[
        str,
        _about(
            "How the outside reaches the API; no slash at the end. In development it follows the port;"
            " production needs https.",
            "外部访问接口的地址，末尾不带斜杠；开发环境随端口而定，生产环境须为 https。",
            pattern="^https?://.+[^/]$",
        ),
    ] = "http://127.0.0.1:8700"
    log_level: Annotated[
        LogLevel,
        _about("`debug`, `info`, `warning` or `error`.", "日志级别：debug、info、warning 或 error。"),
    ] = LogLevel.INFO
    password_memory_kib: Annotated[
        int,
        _about(
            "Memory that hashing one password takes (Argon2id).",
            "单次口令哈希占用的内存（KiB，Argon2id）。",
            ge=8192,
            le=1_048_576,
        ),
    ] = 19_456
    password_passes: Annotated[
        int,
        _about("Passes over that memory (Argon2id).", "口令哈希的迭代遍数（Argon2id）。", ge=1, le=10),
    ] = 2
    evidence_origin: Annotated[
        str,
        _about(
            "Name of the transparency log, in every checkpoint. Never changes.",
            "存证日志的名称，写入每个检查点，启用后不可更改。",
            pattern="^[a-z0-9./-]+$",
        ),
    ] = "localhost/quanhui"
    issuer_url: Annotated[
        str, _about("Connector of the voucher issuers.", "发行方接口地址。", pattern="^https?://.+[^/]$")
    ] = "http://127.0.0.1:8711"
    institution_url: Annotated[
        str,
        _about("Bank or payment institution.", "银行或支付机构接口地址。", pattern="^https?://.+[^/]$"),
    ] = "http://127.0.0.1:8712"
    sms_url: Annotated[
        str, _about("Short-message gateway.", "短信网关地址。", pattern="^https?://.+[^/]$")
    ] = "http://127.0.0.1:8713"
    sample_seed: Annotated[
        int, _about("Same seed, same sample data.", "样例数据的随机种子，相同种子生成相同数据。", ge=0)
    ] = 20261122
    sample_stores: Annotated[int, _about("Stores in the sample data.", "样例门店数。", ge=1, le=20_000)] = (
        3_200
    )
    sample_customers: Annotated[
        int, _about("Customers in the sample data.", "样例客户数。", ge=1, le=1_000_000)
    ] = 2_000
    sample_vouchers: Annotated[
        int, _about("Vouchers in the sample data.", "样例券数。", ge=1, le=10_000_000)
    ] = 20_000
    sealing_keys: Annotated[
        dict[int, Key],
        _about(
            "Keys that seal codes and personal data: `1:<base64>,2:<base64>`. The highest seals, all open.",
            "加密券码与个人信息的密钥，格式 1:<base64>,2:<base64>；编号最大的用于加密，全部可用于解密。",
            secret=True,
            min_length=1,
        ),
    ]
    fingerprint_key: Annotated[
        bytes,
        _secret(
            "Key of the voucher fingerprints (32 bytes). It cannot be rotated while running.",
            "券码指纹密钥（32 字节），运行中不可轮换。",
        ),
    ]
    evidence_seed: Annotated[
        bytes,
        _secret(
            "Ed25519 seed that signs checkpoints (32 bytes).", "签署存证检查点的 Ed25519 种子（32 字节）。"
        ),
    ]
    log_key: Annotated[
        bytes,
        _secret(
            "Key of the blinded tags in the transparency log (32 bytes).",
            "存证日志盲化标签的密钥（32 字节）。",
        ),
    ]
    issuer_secret: Annotated[
        bytes,
        _secret("Secret shared with the issuers' connector.", "与发行方接口共享的签名密钥。", longest=None),
    ]
    institution_secret: Annotated[
        bytes,
        _secret(
            "Secret shared with the institution, for our calls.",
            "调用银行或支付机构的签名密钥。",
            longest=None,
        ),
    ]
    callback_secret: Annotated[
        bytes,
        _secret(
            "Secret shared with the institution, for its callbacks.",
            "验证银行或支付机构回调的签名密钥。",
            longest=None,
        ),
    ]
    sms_secret: Annotated[
        bytes, _secret("Secret shared with the SMS gateway.", "与短信网关共享的签名密钥。", longest=None)
    ]
    wechat: Annotated[
        WechatAccount | None,
        _account(
            "Our WeChat merchant account, as JSON: `url`, `merchant`, `app`, `serial`, `private_key`,"
            " `platform_serial`, `platform_key`, `notice_key` (APIv3) and `terms`.",
            "微信支付商户账户（JSON）：url、merchant、app、serial、private_key、platform_serial、"
            "platform_key、notice_key（APIv3 密钥）和 terms。",
        ),
    ] = None
    alipay: Annotated[
        AlipayAccount | None,
        _account(
            "Our Alipay application, as JSON: `url`, `app`, `private_key`, `platform_key` and `terms`.",
            "支付宝应用账户（JSON）：url、app、private_key、platform_key 和 terms。",
        ),
    ] = None

    @property
    def in_production(self) -> bool:
        """Whether real money and real people are at stake."""
        return self.environment is Environment.PRODUCTION

    def __rich_repr__(self) -> Any:
        for field in FIELDS:
            yield field.name, "***" if field.secret else getattr(self, field.name)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({shown})"


class Field(msgspec.Struct, frozen=True):
    """What the reference page says about one setting."""

    name: str
    kind: Any
    en: str
    zh: str
    secret: bool
    default: object

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()


def _read_fields() -> tuple[Field, ...]:
    hints = get_type_hints(Settings, include_extras=True)
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    fields = []
    for name, kind in hints.items():
        meta = get_args(kind)[1]
        fields.append(
            Field(name, kind, meta.description, meta.extra["zh"], meta.extra["secret"], defaults[name])
        )
    return tuple(fields)


FIELDS = _read_fields()
DEFAULTS = {field.name: field.default for field in FIELDS}
REQUIRED = tuple(name for name, default in DEFAULTS.items() if default is msgspec.NODEFAULT)


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables. Raises `SettingsError` naming everything that is wrong."""
    problems = _unknown_variables(environ)
    values: dict[str, Any] = {}
    for field in FIELDS:
        text = environ.get(field.variable, "").strip()
        if not text:
            continue
        try:
            values[field.name] = _parse(text, field.kind)
        except (msgspec.ValidationError, ValueError) as error:
            problems.append(f"{field.variable}: {error}")
            values[field.name] = None
    if values.get("environment") is Environment.PRODUCTION:
        problems += _unfit_for_production(values) + _unfit_accounts(values)
    if problems:
        raise SettingsError(problems)
    if values.get("environment") is Environment.PRODUCTION:
        values = {**dict.fromkeys(channel_accounts()), **values}
    port = values.get("http_port", DEFAULTS["http_port"])
    return Settings(**{**development_secrets(), "public_base_url": f"http://127.0.0.1:{port}", **values})


def development_secrets() -> dict[str, Any]:
    """Secrets that everyone can compute: what development uses where none is given."""

    def derive(name: str) -> bytes:
        return hashlib.sha256(DEVELOPMENT_SEED + name.encode()).digest()

    made: dict[str, Any] = {name: derive(name) for name in REQUIRED}
    return {**made, "sealing_keys": {1: made["sealing_keys"]}, **channel_accounts()}


def fresh_secrets() -> dict[str, str]:
    """A new set of secrets, as variables ready for an environment file."""
    made = {name: b64encode(secrets.token_bytes(SECRET_BYTES)).decode() for name in REQUIRED}
    made["sealing_keys"] = "1:" + made["sealing_keys"]
    return {PREFIX + name.upper(): value for name, value in made.items()}


def as_text(value: object) -> str:
    """A setting as it stands in the environment; `load` reads it back."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Account):
        return msgspec.json.encode(value).decode()
    if isinstance(value, dict):
        return ",".join(f"{key}:{as_text(part)}" for key, part in value.items())
    return str(value)


def _parse(text: str, kind: Any) -> Any:
    plain: Any = text
    if text.startswith("{"):
        account = msgspec.json.decode(text, type=kind)
        account.check()
        return account
    if get_origin(get_args(kind)[0]) is dict:
        pairs = [part.strip().split(":", 1) for part in text.split(",")]
        if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - a pair
            raise ValueError("expected `1:<base64>,2:<base64>`")
        plain = dict(pairs)
        if len(plain) != len(pairs):
            raise ValueError("a key number stands twice")
    return msgspec.convert(plain, kind, strict=False, dec_hook=_make_path)


def _make_path(kind: type, value: Any) -> Any:
    assert kind is Path
    return Path(value)


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {field.variable for field in FIELDS}
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [f"{name}: no such setting (see docs/reference/settings.md)" for name in strange]


def _unfit_for_production(values: Mapping[str, Any]) -> list[str]:
    problems = []
    public = set(_keys_in(development_secrets().values()))
    for name in REQUIRED:
        variable = PREFIX + name.upper()
        if name not in values:
            problems.append(
                f"{variable}: production needs a secret of its own (`quanhui secrets` prints a set)"
            )
        elif public & set(_keys_in([values[name]])):
            problems.append(f"{variable}: this is the public development secret")
    for name in ("issuer_url", "institution_url", "sms_url", "public_base_url"):
        url = values.get(name, DEFAULTS[name])
        if url is None:
            continue
        if urlsplit(url).hostname in LOOPBACK:
            problems.append(f"{PREFIX}{name.upper()}: production cannot use a sandbox on this machine")
        elif not url.startswith("https://"):
            problems.append(f"{PREFIX}{name.upper()}: production needs https")
    if values.get("evidence_origin", DEFAULTS["evidence_origin"]) == DEFAULTS["evidence_origin"]:
        problems.append(
            f"{PREFIX}EVIDENCE_ORIGIN: give the log a name of its own, such as example.com/quanhui"
        )
    return problems


def _unfit_accounts(values: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, account in values.items():
        if not isinstance(account, Account):
            continue
        if is_public(account):
            problems.append(f"{PREFIX}{name.upper()}: this is the public development key")
        if urlsplit(account.url).hostname in LOOPBACK or not account.url.startswith("https://"):
            problems.append(f"{PREFIX}{name.upper()}: production needs https, and no sandbox on this machine")
    return problems


def _keys_in(values: Iterable[Any]) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, bytes):
            yield value
