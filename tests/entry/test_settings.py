from base64 import b64encode
from pathlib import Path

import msgspec
import pytest
from fakes.channels import alipay_account, wechat_account
from rich.pretty import pretty_repr

from quanhui.base.keyring import Keyring
from quanhui.entry.settings import (
    FIELDS,
    REQUIRED,
    Settings,
    SettingsError,
    as_text,
    development_secrets,
    fresh_secrets,
    load,
)

ROOT = Path(__file__).parents[2]
FIT_FOR_PRODUCTION = {
    "QUANHUI_ENVIRONMENT": "production",
    "QUANHUI_PUBLIC_BASE_URL": "https://vouchers.example.com",
    "QUANHUI_ISSUER_URL": "https://issuer.example.com",
    "QUANHUI_INSTITUTION_URL": "https://bank.example.com",
    "QUANHUI_SMS_URL": "https://sms.example.com",
    "QUANHUI_EVIDENCE_ORIGIN": "vouchers.example.com/log",
}
OTHER_VALUES = {
    "environment": "development",
    "data_dir": "elsewhere",
    "database_url": "postgresql://db.example.com/quanhui",
    "http_host": "0.0.0.0",
    "http_port": "9000",
    "http_workers": "7",
    "http_pool_size": "33",
    "worker_pool_size": "34",
    "body_limit_bytes": "4096",
    "public_base_url": "https://vouchers.example.com",
    "log_level": "debug",
    "quote_ttl_s": "77",
    "quote_ttl_elder_s": "777",
    "password_memory_kib": "32768",
    "password_passes": "3",
    "evidence_origin": "example.com/log",
    "issuer_url": "https://issuer.example.com",
    "institution_url": "https://bank.example.com",
    "sms_url": "https://sms.example.com",
    "wechat": as_text(wechat_account("https://wechat.example.com")),
    "alipay": as_text(alipay_account("https://alipay.example.com")),
    "sample_seed": "5",
    "sample_stores": "6",
    "sample_customers": "8",
    "sample_vouchers": "9",
    "sealing_keys": f"1:{b64encode(b'1' * 32).decode()},2:{b64encode(b'2' * 32).decode()}",
    **{name: b64encode(name[:1].encode() * 32).decode() for name in REQUIRED if name != "sealing_keys"},
}


def problems_of(environ):
    with pytest.raises(SettingsError) as caught:
        load(environ)
    return caught.value.problems


def test_nothing_needs_to_be_set_in_development():
    settings = load({})
    assert not settings.in_production
    assert settings.http_port == 8700
    Keyring(settings.sealing_keys, settings.fingerprint_key)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.variable)
def test_every_variable_is_read_and_described(field):
    text = OTHER_VALUES[field.name]
    value = getattr(load({field.variable: text}), field.name)
    assert as_text(value) == text
    assert field.name == "environment" or value != getattr(load({}), field.name)
    assert field.en.strip()
    assert field.zh.strip()
    assert field.variable in (ROOT / "docs" / "reference" / "settings.md").read_text()


def test_in_development_the_public_address_follows_the_port():
    assert load({"QUANHUI_HTTP_PORT": "9000"}).public_base_url == "http://127.0.0.1:9000"


def test_every_setting_is_used_somewhere():
    code = "".join(
        path.read_text()
        for path in (ROOT / "src" / "quanhui" / "entry").glob("*.py")
        if path.name not in {"settings.py", "docs.py"}
    )
    by_party = {f"{party}_{kind}" for party in ("issuer", "institution", "sms") for kind in ("url", "secret")}
    unused = [field.name for field in FIELDS if f"settings.{field.name}" not in code]
    assert not set(unused) - by_party - {"environment"}


def test_a_variable_that_does_not_exist_is_refused():
    assert problems_of({"QUANHUI_HTTP_PROT": "1"}) == [
        "QUANHUI_HTTP_PROT: no such setting (see docs/reference/settings.md)"
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("QUANHUI_HTTP_PORT", "0"),
        ("QUANHUI_HTTP_PORT", "eighty"),
        ("QUANHUI_ENVIRONMENT", "prod"),
        ("QUANHUI_DATABASE_URL", "mysql://x"),
        ("QUANHUI_PUBLIC_BASE_URL", "https://x.example.com/"),
        ("QUANHUI_FINGERPRINT_KEY", "not base64!"),
        ("QUANHUI_FINGERPRINT_KEY", b64encode(b"short").decode()),
        ("QUANHUI_SMS_SECRET", b64encode(b"x" * 31).decode()),
        ("QUANHUI_SEALING_KEYS", "no number"),
        ("QUANHUI_SEALING_KEYS", f"1:{b64encode(b'short').decode()}"),
        ("QUANHUI_SEALING_KEYS", ",".join([f"1:{b64encode(b'1' * 32).decode()}"] * 2)),
    ],
)
def test_a_value_that_cannot_be_used_is_named_but_not_repeated(variable, text):
    (problem,) = problems_of({variable: text})
    assert problem.startswith(variable)
    assert len(text) < 5 or text not in problem.removeprefix(variable) or variable == "QUANHUI_ENVIRONMENT"


def test_every_problem_is_told_at_once():
    problems = problems_of({"QUANHUI_HTTP_PORT": "x", "QUANHUI_HTTP_WORKERS": "x", "QUANHUI_LOG_LEVEL": "x"})
    assert len(problems) == 3


def test_production_runs_with_fresh_secrets_and_addresses_of_its_own():
    assert load({**FIT_FOR_PRODUCTION, **fresh_secrets()}).in_production


def test_production_without_anything_set_names_everything_it_needs():
    told = "\n".join(problems_of({"QUANHUI_ENVIRONMENT": "production"}))
    for name in (*REQUIRED, "issuer_url", "institution_url", "sms_url", "public_base_url", "evidence_origin"):
        assert f"QUANHUI_{name.upper()}:" in told


@pytest.mark.parametrize("name", REQUIRED)
def test_production_refuses_each_development_secret(name):
    public = as_text(development_secrets()[name])
    environ = {**FIT_FOR_PRODUCTION, **fresh_secrets(), f"QUANHUI_{name.upper()}": public}
    assert problems_of(environ) == [f"QUANHUI_{name.upper()}: this is the public development secret"]


def test_production_refuses_a_development_secret_under_another_name():
    public = development_secrets()
    environ = {**FIT_FOR_PRODUCTION, **fresh_secrets(), "QUANHUI_LOG_KEY": as_text(public["evidence_seed"])}
    assert problems_of(environ) == ["QUANHUI_LOG_KEY: this is the public development secret"]


@pytest.mark.parametrize("name", ["issuer_url", "institution_url", "sms_url", "public_base_url"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:8711", "https://localhost", "http://bank.example.com"])
def test_production_refuses_sandboxes_and_plain_http(name, url):
    environ = {**FIT_FOR_PRODUCTION, **fresh_secrets(), f"QUANHUI_{name.upper()}": url}
    assert len(problems_of(environ)) == 1


@pytest.mark.parametrize("name", ["wechat", "alipay"])
def test_production_uses_a_channel_only_with_an_account_of_its_own(name):
    fit = {**FIT_FOR_PRODUCTION, **fresh_secrets()}
    assert getattr(load(fit), name) is None
    assert getattr(load({}), name) is not None
    own = {"wechat": wechat_account, "alipay": alipay_account}[name]
    variable = f"QUANHUI_{name.upper()}"
    assert getattr(load({**fit, variable: as_text(own("https://pay.example.com"))}), name) is not None
    for account in (own("http://pay.example.com"), own("https://localhost"), public_key_at(name)):
        assert len(problems_of({**fit, variable: as_text(account)})) == 1


def public_key_at(name):
    return msgspec.structs.replace(development_secrets()[name], url="https://pay.example.com")


@pytest.mark.parametrize("text", ["{", "{}", '{"url":"x"}', "[]", "nonsense"])
def test_an_account_that_makes_no_sense_is_refused(text):
    assert len(problems_of({"QUANHUI_WECHAT": text})) == 1


@pytest.mark.parametrize("field", ["private_key", "platform_key"])
def test_an_account_whose_keys_cannot_be_used_is_refused_without_repeating_them(field):
    account = msgspec.structs.replace(development_secrets()["alipay"], **{field: "hush"})
    (problem,) = problems_of({"QUANHUI_ALIPAY": as_text(account)})
    assert "RSA" in problem
    assert "hush" not in problem
    assert "hush" not in repr(account) or field == "platform_key"


def test_secrets_are_never_shown():
    settings = load({"QUANHUI_DATABASE_URL": "postgresql://u:hush@db.example.com/quanhui"})
    shown = repr(settings) + str(settings) + pretty_repr(settings)
    assert "hush" not in shown
    for name in REQUIRED:
        value = getattr(settings, name)
        for key in value.values() if isinstance(value, dict) else [value]:
            assert repr(key) not in shown
            assert b64encode(key).decode() not in shown


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        load({}).http_port = 1
    assert msgspec.structs.replace(load({}), http_port=1).http_port == 1


def test_two_sets_of_fresh_secrets_share_nothing():
    assert not set(fresh_secrets().values()) & set(fresh_secrets().values())


def test_development_secrets_cover_every_secret_without_a_default():
    assert set(development_secrets()) == {*REQUIRED, "wechat", "alipay"}
    assert len(msgspec.structs.fields(Settings)) == len(FIELDS)
