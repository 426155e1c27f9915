"""What handlers are given by name and what callers send by name are kept apart.

Litestar takes a fault in a field that is named like something injected for a fault of the server: bad input
would be answered with 500.
"""

import msgspec
from litestar.handlers import HTTPRouteHandler

from quanhui.entry.http import create_app
from quanhui.entry.settings import load


def test_no_field_of_a_body_is_named_like_something_injected():
    handlers = {
        handler
        for route in create_app(load({})).routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler)
    }
    bodies, clashes = 0, []
    for handler in handlers:
        data = handler.parsed_fn_signature.parameters.get("data")
        if data is None:
            continue
        bodies += 1
        fields = {field.name for field in msgspec.structs.fields(data.annotation)}
        injected = {name for name in handler.resolve_dependencies() if name in fields}
        clashes += [f"{handler.fn.__name__}: {name}" for name in injected]
    assert bodies > 30
    assert not clashes
