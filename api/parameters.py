"""Parameters of a query: one that a route does not know is refused, never passed over.

A misspelled `?keep_recordings=true` would otherwise erase what was to be kept, and a misspelled threshold decide by
another one.
"""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

_SHOWN = 80


async def only_known(request: Request) -> None:
    """Refuse a request whose query has a parameter that its route does not take; a dependency of every router.

    It waits for nothing, and is a coroutine for that: the framework would hand it to a thread otherwise.

    Raises
    ------
    RequestValidationError
        If there is one; the message says which ones there are.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = sorted(set(_names(route.dependant)))
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        remedy = f"this route takes {', '.join(known)}" if known else "this route takes none"
        raise RequestValidationError(
            [
                {
                    "type": "unknown_parameter",
                    "loc": ("query", name[:_SHOWN]),
                    "msg": f"there is no such parameter; {remedy}",
                    "input": request.query_params[name],
                }
                for name in unknown
            ]
        )


def _names(dependant: Dependant) -> Iterator[str]:
    """Names of all that a route and what it depends on read from the query."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names(inner)
