"""The OpenAPI 3.1 description: what Litestar reads off the routes, completed with what all of them share."""

from typing import Any

from litestar import Litestar, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
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
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from quanhui import __version__
from quanhui.base.access import Access, open_to_public
from quanhui.base.web import PROBLEM_JSON
from quanhui.entry.settings import Settings

ASSETS = "/docs-assets"
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


def config(settings: Settings) -> OpenAPIConfig:
    """The reference at `/docs`, with the assets served by ourselves."""
    return OpenAPIConfig(
        title="Quanhui 券汇",
        version=__version__,
        description=DESCRIPTION,
        openapi_router=Router("/docs", route_handlers=[], opt=open_to_public()),
        use_handler_docstrings=True,
        servers=[Server(url=settings.public_base_url)],
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
        render_plugins=[
            SwaggerRenderPlugin(
                path="/",
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                favicon='<link rel="icon" href="data:,">',
            )
        ],
    )


def complete(app: Litestar) -> None:
    """Add to every operation what all share: its permission, the idempotency header, and its problems."""
    schema = app.openapi_schema
    access_of = {
        handler.operation_id: handler.opt.get("access")
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if handler.operation_id
    }
    for path in (schema.paths or {}).values():
        for method in ("get", "post", "put", "patch", "delete"):
            operation: Operation | None = getattr(path, method)
            if operation:
                _complete(operation, access_of.get(operation.operation_id or ""), is_command=method != "get")


def _complete(operation: Operation, access: Any, *, is_command: bool) -> None:
    responses = operation.responses or {}
    for status in [status for status in responses if status.startswith(("4", "5"))]:
        del responses[status]
    responses["default"] = OpenAPIResponse(
        description="A problem: RFC 9457, with a stable `type` and what to do.",
        content={PROBLEM_JSON: OpenAPIMediaType(schema=Reference(ref=PROBLEM_REF))},
    )
    operation.responses = responses
    if not isinstance(access, Access):
        return
    operation.security = [{"bearer": []}, {"partner": []}]
    scopes = ", ".join(sorted(access.scopes))
    note = f"Needs `{access.permission}` ({scopes})."
    operation.description = f"{operation.description or ''}\n\n{note}".strip()
    if is_command:
        operation.parameters = [*(operation.parameters or []), _IDEMPOTENCY_KEY]


_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    required=True,
    description="Unique for each command, repeated unchanged on a retry.",
    schema=Schema(type=OpenAPIType.STRING, min_length=1, max_length=128, format=OpenAPIFormat.UUID),
    example="0b7c6f7a-5d0e-4f55-9f3b-2f4f8a1f9c11",
)
