"""Turns the descriptions of routes into methods of the two clients, with their arguments and types."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, cast

from voxdex_client.models import Page
from voxdex_client.pages import AsyncPages, Pages
from voxdex_client.requests import Call, Route
from voxdex_client.transport import AsyncConnection, Connection

P = ParamSpec("P")
T = TypeVar("T")


class Resource:
    """Methods of the blocking client."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


class AsyncResource:
    """Methods of the asynchronous client."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection


class calls(Generic[P, T]):  # noqa: N801 - reads like a decorator where it is used
    """A method that sends a route's request and returns what it answers."""

    def __init__(self, route: Route[P, T]) -> None:
        self.route = route

    def __get__(self, owner: Resource, kind: type) -> Callable[P, T]:
        @functools.wraps(self.route.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return owner._connection.send(self.route.call(*args, **kwargs))

        return method


class lists(Generic[P, T]):  # noqa: N801
    """A method that returns all items of a route that answers in pages."""

    def __init__(self, route: Route[P, Page[T]]) -> None:
        self.route = route

    def __get__(self, owner: Resource, kind: type) -> Callable[P, Pages[T]]:
        @functools.wraps(self.route.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Pages[T]:
            return Pages(owner._connection, _page_from(self.route, args, kwargs))

        return method


class acalls(Generic[P, T]):  # noqa: N801
    """`calls`, to be awaited."""

    def __init__(self, route: Route[P, T]) -> None:
        self.route = route

    def __get__(self, owner: AsyncResource, kind: type) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(self.route.build)
        async def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return await owner._connection.send(self.route.call(*args, **kwargs))

        return method


class alists(Generic[P, T]):  # noqa: N801
    """`lists`, for `async for`."""

    def __init__(self, route: Route[P, Page[T]]) -> None:
        self.route = route

    def __get__(self, owner: AsyncResource, kind: type) -> Callable[P, AsyncPages[T]]:
        @functools.wraps(self.route.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> AsyncPages[T]:
            return AsyncPages(owner._connection, _page_from(self.route, args, kwargs))

        return method


def _page_from(
    route: Route[P, Page[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[str | None], Call[Page[T]]]:
    call = cast(Callable[..., Call[Page[T]]], route.call)
    return lambda cursor: call(*args, **(kwargs if cursor is None else {**kwargs, "cursor": cursor}))
