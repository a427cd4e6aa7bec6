"""Routes that are asked with the same query again and again: the framework reads its parameters once.

To find that a request leaves twenty parameters out takes the framework most of a millisecond where nothing of it is in
the processor's cache. What a query says depends on nothing but the query, so what was read of it is kept. Who asks is
found out for every request.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.security import SESSION_COOKIE, Principal, require

FILE_NAME_LIMIT = 1000
"""Most characters of what a client calls a recording."""

_QUERIES_KEPT = 64
_LONGEST_KEPT = 500
"""Bytes of a query; longer ones do not come again."""

_READ = "voxdex.read"
"""Where a request's scope holds what was read of its parameters."""

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Awaitable[Response]])


def read_once(endpoint: _Endpoint) -> _Endpoint:
    """Mark an endpoint whose parameters are the request, whoever may identify, and what path and query say.

    A parameter `filename` may differ from request to request: the endpoint reads it of the request.
    """

    @wraps(endpoint)
    async def noted(**values: Any) -> Response:
        request: Request = values["request"]
        said = {name: value for name, value in values.items() if not isinstance(value, Request | Principal)}
        said.pop("_filename", None)
        principal = next(name for name, value in values.items() if isinstance(value, Principal))
        request.scope[_READ] = principal, said
        return await endpoint(**values)

    return noted  # type: ignore[return-value]  # `wraps` keeps the signature.


class RepeatedQueries(APIRoute):
    """A route that answers a query which was read before without reading it again; for `read_once` endpoints."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        as_ever = super().get_route_handler()
        endpoint: Callable[..., Awaitable[Response]] = getattr(self.endpoint, "__wrapped__", self.endpoint)
        admitted = require("identify")
        kept: OrderedDict[Any, tuple[str, dict[str, Any]]] = OrderedDict()

        async def handle(request: Request) -> Response:
            key = None if request.app.dependency_overrides else _key(request)
            read = kept.get(key)
            if key is None or read is None:
                response = await as_ever(request)
                if key is not None and _READ in request.scope:
                    kept[key] = request.scope[_READ]
                    while len(kept) > _QUERIES_KEPT:
                        kept.popitem(last=False)
                return response
            principal, said = read
            who = await admitted(request, session=request.cookies.get(SESSION_COOKIE))
            return await endpoint(request=request, **{principal: who}, **said)

        return handle


def _key(request: Request) -> Any:
    """Return what path and query say beside a recording's name; None where they must be read anew."""
    if len(request.scope["query_string"]) > _LONGEST_KEPT + 3 * FILE_NAME_LIMIT:
        return None
    said = [*request.path_params.items()]
    for name, value in request.query_params.multi_items():
        if name != "filename":
            said.append((name, value))
        elif not value.isprintable() or not 0 < len(value) <= FILE_NAME_LIMIT:
            return None
    return tuple(said) if sum(len(str(value)) for _, value in said) <= _LONGEST_KEPT else None
