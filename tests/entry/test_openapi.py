"""The description of the API says what a partner needs to know of each operation; its examples are true."""

import re

import msgspec
import pytest
from factories.api import settings_for

from quanhui.base.access import PUBLIC
from quanhui.base.errors import all_problems
from quanhui.entry.http import create_app

METHODS = ("get", "post", "put", "patch", "delete")
HAN = re.compile("[\u4e00-\u9fff]")
SNAKE = re.compile(r"[a-z]+(_[a-z]+)+")
LONGEST_SUMMARY = 60

app = create_app(settings_for("postgresql://nowhere/nothing"))
description = app.openapi_schema.to_schema()
operations = {
    operation["operationId"]: (method, path, operation)
    for path, methods in description["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
}
handlers = {
    handler.operation_id: handler
    for route in app.routes
    for handler in getattr(route, "route_handlers", ())
    if handler.operation_id in operations
}
every_operation = pytest.mark.parametrize("name", operations)


def test_it_is_openapi_3_1_and_names_every_operation_once():
    assert description["openapi"].startswith("3.1.")
    written = [o["operationId"] for item in description["paths"].values() for o in item.values()]
    assert sorted(written) == sorted(operations)
    assert set(handlers) == set(operations)
    assert len(operations) > 75


@every_operation
def test_an_operation_is_told_in_words(name):
    _, path, operation = operations[name]
    assert SNAKE.fullmatch(name)
    summary = operation["summary"]
    assert HAN.search(summary), "the Chinese word"
    assert re.match("[A-Z][a-z]", summary), "the English ones"
    assert len(summary) <= LONGEST_SUMMARY
    assert operation["description"]
    assert operation["tags"]
    assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}
    assert path.startswith("/v1/") or operation["tags"] == ["platform"]


@every_operation
def test_a_command_asks_for_an_idempotency_key_and_says_which_permission_it_needs(name):
    method, _, operation = operations[name]
    headers = {each["name"]: each for each in operation.get("parameters", ()) if each["in"] == "header"}
    access = handlers[name].opt["access"]
    assert ("Idempotency-Key" in headers) is (method != "get" and access != PUBLIC)
    if headers:
        assert headers["Idempotency-Key"]["required"]
        assert headers["Idempotency-Key"]["example"]
    assert bool(operation.get("security")) is (access != PUBLIC)
    if access != PUBLIC:
        assert f"`{access.permission}`" in operation["description"]


@every_operation
def test_every_parameter_is_described_and_bounded(name):
    for parameter in operations[name][2].get("parameters", ()):
        schema, called = parameter["schema"], parameter["name"]
        assert parameter["description"], called
        assert "oneOf" not in schema, called
        if schema.get("type") == "string":
            assert {"maxLength", "pattern", "enum"} & set(schema), called
        if schema.get("type") in ("integer", "number"):
            assert "maximum" in schema, called


@pytest.mark.parametrize("name", [name for name in operations if "requestBody" in operations[name][2]])
def test_the_worked_example_of_a_body_is_one_that_the_operation_takes(name):
    content = operations[name][2]["requestBody"]["content"]
    assert set(content) == {"application/json"}
    example = content["application/json"]["example"]
    body = handlers[name].parsed_data_field.annotation
    read = msgspec.convert(example, body)
    assert example, read


def test_every_problem_type_has_a_page_of_its_own():
    assert "/problems/{code}" in description["paths"]
    for problem in all_problems():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", problem.code)
        assert HAN.search(problem.zh)
        assert HAN.search(problem.remedy_zh)
        assert not HAN.search(problem.en + problem.remedy_en)
