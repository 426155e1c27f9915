"""The OpenAPI 3.1 description: what Litestar reads off the routes, completed with what all of them share."""

import re
from collections.abc import Mapping
from dataclasses import replace
from inspect import cleandoc
from typing import Any

from litestar import Litestar, Request, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    Schema,
    SecurityScheme,
    Server,
)
from litestar.openapi.spec.enums import OpenAPIType

from quanhui import __version__
from quanhui.base.access import Access, open_to_public
from quanhui.base.web import JSON, PROBLEM_JSON
from quanhui.entry.settings import Settings

ASSETS = "/docs-assets"
START_PATH = "/docs/start.js"
PROBLEM_REF = "#/components/schemas/ProblemView"
DESCRIPTION = """\
闲置购物券的即时回收、付款、再流通与核销。Vouchers bought back, paid at once, put into circulation again.

**Signing in.** Customers: `POST /v1/auth/customer/code`, then `/v1/auth/customer/sign-in`. Staff:
`POST /v1/auth/staff/sign-in`. Send the token as `Authorization: Bearer …`. Partners sign each request.

**Commands** carry an `Idempotency-Key`: the same key and body get the same answer, another body 409.

**Lists** return `items` and `next_cursor`; pass it as `cursor` for what comes after.

**Money** is whole fen 分. **Instants** are UTC. **Problems** are RFC 9457 with a stable `type`, in Chinese
and English, and say what to do; `GET /problems/{code}` explains each.
"""


PAGE = f"""\
<!doctype html><html lang="zh-CN"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>券汇接口 Quanhui API</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
<div id="reference"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script><script src="{START_PATH}"></script></html>
"""
START = """\
SwaggerUIBundle({
  url: "/docs/openapi.json", dom_id: "#reference", deepLinking: true, docExpansion: "list",
  defaultModelsExpandDepth: 0, filter: true, validatorUrl: null,
});
"""


class ReferencePage(OpenAPIRenderPlugin):
    """The reference as a page without a line of script in it, so that the strict content policy holds."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The same page for everyone; it fetches the description itself."""
        del request, openapi_schema
        return PAGE.encode()


def config(settings: Settings) -> OpenAPIConfig:
    """The reference at `/docs`, with the assets served by ourselves."""
    return OpenAPIConfig(
        title="Quanhui 券汇",
        version=__version__,
        description=DESCRIPTION,
        openapi_router=Router("/docs", route_handlers=[], opt=open_to_public(), include_in_schema=False),
        use_handler_docstrings=True,
        servers=[
            Server(url="/", description="Where this was read, so that examples can be tried on the page."),
            Server(url=settings.public_base_url),
        ],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description="A session token."),
                "partner": SecurityScheme(
                    type="apiKey",
                    name="quanhui-key",
                    security_scheme_in="header",
                    description="A partner's key; the request is signed as docs/guides/partners.md tells.",
                ),
            }
        ),
        render_plugins=[ReferencePage(path="/"), JsonRenderPlugin(path="/openapi.json")],
    )


def complete(app: Litestar) -> None:
    """Add to every operation what all share: its words, its permission, a worked example, its problems."""
    schema = app.openapi_schema
    assert schema.components.schemas is not None
    handlers: dict[str, HTTPRouteHandler] = {
        handler.operation_id: handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if getattr(handler, "operation_id", None)
    }
    for path in (schema.paths or {}).values():
        for method in ("get", "post", "put", "patch", "delete"):
            operation: Operation | None = getattr(path, method)
            if operation:
                handler = handlers[operation.operation_id or ""]
                _complete(operation, handler, schema.components.schemas, is_command=method != "get")


def _complete(
    operation: Operation, handler: HTTPRouteHandler, known: Mapping[str, Schema], *, is_command: bool
) -> None:
    responses = operation.responses or {}
    for status in [status for status in responses if status.startswith(("4", "5"))]:
        del responses[status]
    responses["default"] = OpenAPIResponse(
        description="A problem: RFC 9457, with a stable `type` and what to do.",
        content={PROBLEM_JSON: OpenAPIMediaType(schema=Reference(ref=PROBLEM_REF))},
    )
    operation.responses = responses
    operation.summary, told = _words(handler)
    access = handler.opt["access"]
    note = "Open to anyone."
    if isinstance(access, Access):
        note = f"Needs `{access.permission}` ({', '.join(sorted(access.scopes))})."
        operation.security = [{"bearer": []}, {"partner": []}]
    operation.description = f"{told}\n\n{note}".strip()
    if is_command and isinstance(access, Access):
        operation.parameters = [*(operation.parameters or []), _IDEMPOTENCY_KEY]
    for parameter in operation.parameters or ():
        if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
            parameter.schema = _without_null(parameter.schema)
    body = getattr(operation.request_body, "content", {}).get(JSON)
    if body:
        body.example = _worked(body.schema, known)


def _without_null(schema: Schema) -> Schema | Reference:
    """A parameter is given or left out: a query string has no null."""
    choices = [each for each in schema.one_of or () if getattr(each, "type", None) is not OpenAPIType.NULL]
    if len(choices) != 1:
        return schema
    (only,) = choices
    return only if isinstance(only, Reference) else replace(schema, one_of=None, type=only.type)


def _words(handler: HTTPRouteHandler) -> tuple[str, str]:
    """Summary and description: the first sentence of a handler's docstring, and the rest."""
    text = cleandoc(handler.fn.__doc__ or "")
    first, _, rest = text.partition("\n\n")
    sentences = _SENTENCE_END.split(" ".join(first.split()), maxsplit=1)
    more = sentences[1] + "\n\n" if len(sentences) > 1 else ""
    return sentences[0].rstrip("."), (more + rest).strip()


def _worked(schema: Schema | Reference | None, known: Mapping[str, Schema]) -> Any:
    """A worked example, made of the examples that stand beside the fields; None where there is none."""
    if isinstance(schema, Reference):
        schema = known[schema.value]
    if schema is None:
        return None
    if given := [*(schema.examples or ()), *(schema.enum or ())]:
        return given[0]
    if schema.properties:
        made = {name: _worked(part, known) for name, part in schema.properties.items()}
        return {name: value for name, value in made.items() if value is not None}
    if isinstance(schema.items, Schema | Reference):
        return [_worked(schema.items, known)] if schema.min_items else None
    return _worked(schema.one_of[0], known) if schema.one_of else None


_SENTENCE_END = re.compile(r"(?<=[^.])\. (?=[A-Z`])")
_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    required=True,
    description="Unique for each command, repeated unchanged on a retry: up to 128 visible ASCII characters.",
    schema=Schema(type=OpenAPIType.STRING, min_length=1, max_length=128, pattern="^[!-~]+$"),
    example="0b7c6f7a-5d0e-4f55-9f3b-2f4f8a1f9c11",
)
