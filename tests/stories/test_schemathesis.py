"""The API does what it documents, whatever is sent: its own OpenAPI description, turned into requests.

A served platform, as it runs in production but for its data. The examples are derived from the description
alone, so they are the same on every run; `QUANHUI_EXAMPLES=100` asks for more, different each time.
"""

import os
import signal
import time
import urllib.request
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from factories.api import NOWHERE, open_api, settings_for
from factories.platform import free_ports, quanhui
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from quanhui.base.access import PUBLIC, Scope
from quanhui.entry.http import create_app

STAFF_ROLES = (
    "store_manager", "merchant_operator", "operations", "risk_officer", "finance", "compliance",
    "administrator",
)  # fmt: skip
ENDS_SESSIONS = {"sign_out", "sign_out_everywhere"}
HIDDEN = {"QUANHUI_" + name for name in ("ISSUER_URL", "INSTITUTION_URL", "SMS_URL")}
EXAMPLES = int(os.environ.get("QUANHUI_EXAMPLES", "5"))
READY_WITHIN_S = 30

app = create_app(settings_for("postgresql://nowhere/nothing"))
schema = schemathesis.openapi.from_dict(app.openapi_schema.to_schema())
access_of = {
    handler.operation_id: handler.opt["access"]
    for route in app.routes
    for handler in getattr(route, "route_handlers", ())
    if handler.operation_id not in {None, *ENDS_SESSIONS}
}
FOR_CUSTOMERS = [
    name
    for name, access in access_of.items()
    if access == PUBLIC or Scope.OWN in access.scopes or access.permission == "market.read"
]
FOR_STAFF = [name for name, access in access_of.items() if access != PUBLIC and access.scopes != {Scope.OWN}]


@pytest.fixture(scope="module")
async def tokens(sample, copy_database) -> dict[str, str]:
    """Sessions of a customer, and of one operator who holds every role there is."""
    url = await copy_database(sample.url)
    async with open_api(settings_for(url)) as api:
        member = sample.summary.sign_in_customers[0]
        store = await api.desk.pool.fetchrow("SELECT id, merchant_id FROM places.store ORDER BY id LIMIT 1")
        boss = await api.hire(*STAFF_ROLES, store_id=store["id"], merchant_id=store["merchant_id"])
        return {
            "url": url,
            "customer": await api.customer_token(member.id),
            "staff": await api.staff_token(boss),
        }


@pytest.fixture(scope="module")
def served(tokens) -> Iterator[str]:
    """The address of a server with one process, on the database that the tokens are for."""
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUANHUI_")}
    environment |= dict.fromkeys(HIDDEN, NOWHERE) | {
        "QUANHUI_DATABASE_URL": tokens["url"],
        "QUANHUI_HTTP_PORT": str(port),
        "QUANHUI_HTTP_WORKERS": "1",
        "QUANHUI_PASSWORD_MEMORY_KIB": "8192",
        "QUANHUI_PASSWORD_PASSES": "1",
    }
    address = f"http://127.0.0.1:{port}"
    server = quanhui(environment, "serve")
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address + "/health", timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    yield address
    server.send_signal(signal.SIGTERM)
    log, _ = server.communicate(timeout=20)
    assert "request_failed" not in log, log


@pytest.fixture(scope="module")
def line() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        yield opened


bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=os.environ.get("QUANHUI_EXAMPLES") is None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    checks.not_a_server_error,
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


def test_every_operation_is_tried():
    assert set(FOR_CUSTOMERS) | set(FOR_STAFF) == set(access_of)


@schema.include(operation_id=FOR_CUSTOMERS).parametrize()
@bounded
def test_whatever_a_customer_sends_the_answer_is_one_that_is_documented(case, served, line, tokens):
    check(case, served, line, tokens["customer"])


@schema.include(operation_id=FOR_STAFF).parametrize()
@bounded
def test_whatever_staff_send_the_answer_is_one_that_is_documented(case, served, line, tokens):
    check(case, served, line, tokens["staff"])


def check(case, served: str, line: requests.Session, token: str) -> None:
    answer = case.call(base_url=served, session=line, headers={"authorization": f"Bearer {token}"})
    # The framework reads the word null in a query as a parameter left out: more than is promised.
    lenient = [negative_data_rejection] if "=null" in answer.request.url else []
    case.validate_response(answer, checks=CHECKS, excluded_checks=lenient)
