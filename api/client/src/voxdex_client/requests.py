"""How a route is described, once for both clients: what is sent where, and what comes back."""

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from voxdex_client.audio import Body
from voxdex_client.errors import UnexpectedAnswer

P = ParamSpec("P")
T = TypeVar("T")

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Query = Mapping[str, str | int | float | bool | dt.datetime | Sequence[str | int] | None]


class Unset:
    """The type of `UNSET`, which says that a value stays as it is, where None says that there is none."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


@dataclass(frozen=True)
class Sent:
    """What the arguments of one call come to."""

    path: Mapping[str, str | int] = field(default_factory=dict)
    query: Query = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    """Fields that are `UNSET` are left out."""
    body: Body | None = None
    key: str | None = None
    """The caller's own Idempotency-Key."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, ready for either client, and how its answer is read."""

    method: Method
    path: str
    read: Callable[[httpx.Response], T]
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    json: dict[str, Any] | None
    body: Body | None
    also: frozenset[int]
    """Statuses above 399 that are answers all the same."""

    @property
    def replayable(self) -> bool:
        """Whether it may be sent again when its outcome is unknown; every call has the same effect once or twice."""
        return self.body is None or self.body.replayable


@dataclass(frozen=True)
class Route(Generic[P, T]):
    """A route of the service, as a function from arguments to the request to send."""

    method: Method
    template: str
    returns: Any
    keyed: bool
    also: frozenset[int]
    build: Callable[P, Sent]

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """Build the request of one call."""
        sent = self.build(*args, **kwargs)
        headers = {}
        if self.keyed:
            headers["Idempotency-Key"] = sent.key or uuid.uuid4().hex
        json = None
        if sent.json is not None:
            json = {name: _plain(value) for name, value in sent.json.items() if not isinstance(value, Unset)}
        return Call(
            method=self.method,
            path=self.template.format(**{name: _segment(value) for name, value in sent.path.items()}),
            read=self._read,
            query=tuple(_pairs(sent.query)),
            headers=headers,
            json=json,
            body=sent.body,
            also=self.also,
        )

    def _read(self, response: httpx.Response) -> T:
        if self.returns is bytes:
            return cast(T, response.content)
        if self.returns is str:
            return cast(T, response.text)
        if self.returns is NoneType:
            return cast(T, None)
        try:
            return cast(T, TypeAdapter(self.returns).validate_json(response.content))
        except ValidationError as error:
            raise UnexpectedAnswer(
                f"{self.method} {self.template} was answered with {response.status_code} and a body that this version "
                f"of the client does not know: {error}"
            ) from error


def route(
    method: Method, template: str, returns: type[T], *, keyed: bool = False, also: frozenset[int] = frozenset()
) -> Callable[[Callable[P, Sent]], Route[P, T]]:
    """Describe a route by the function that turns arguments into what is sent.

    Parameters
    ----------
    template
        Path with `{names}` that `Sent.path` fills.
    returns
        What the answer is read as: a model, `bytes`, `str`, or `NoneType` where there is nothing to read.
    keyed
        Whether it writes by POST and so carries an Idempotency-Key, with which it can be tried again.
    also
        Statuses above 399 whose body is an answer of the same form.
    """

    def describe(build: Callable[P, Sent]) -> Route[P, T]:
        return Route(method, template, returns, keyed, also, build)

    return describe


def _segment(value: str | int) -> str:
    encoded = quote(str(value), safe="")
    # `.` and `..` would be taken for steps through the path.
    return encoded.replace(".", "%2E") if encoded in {".", ".."} else encoded


def _pairs(query: Query) -> list[tuple[str, str]]:
    pairs = []
    for name, value in query.items():
        if value is None:
            continue
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        pairs += [(name, one if isinstance(one, str) else _text(one)) for one in values]
    return pairs


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _instant(value) if isinstance(value, dt.datetime) else str(value)


def _plain(value: object) -> object:
    return _instant(value) if isinstance(value, dt.datetime) else value


def _instant(value: dt.datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone: give one, as in datetime.now(timezone.utc)")
    return value.isoformat()
