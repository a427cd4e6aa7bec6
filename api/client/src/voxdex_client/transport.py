"""The two ways to the service, blocking and asynchronous; what is tried again, and when, is decided once for both."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx

from voxdex_client.errors import ApiError, ConnectionFailed, UnexpectedAnswer, error_of
from voxdex_client.requests import Call

T = TypeVar("T")

TIMEOUT = httpx.Timeout(300.0, connect=10.0)
"""Long recordings are embedded while the service is silent."""

STREAM_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""A stream of events says something, if only that it is alive, several times in this time."""

USER_AGENT = "voxdex-client/0.1"

_BROKEN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
)
"""The connection failed, and a new one may not. A service that is too slow is not asked to begin again."""

IN_FLIGHT_S = 300.0
"""Longest wait for the answer to an earlier try of the same request."""

_LATER = frozenset({429, 502, 503, 504})
_IN_FLIGHT = "request-in-flight"


@dataclass(frozen=True)
class Retries:
    """How often, and after which waits, a request is sent again.

    Attributes
    ----------
    tries
        Most requests for one call; 1: never again.
    backoff_s
        Wait before the second, doubled each time, a quarter more or less.
    most_s
        Longest wait. A service that asks for a longer one is not waited for.
    """

    tries: int = 5
    backoff_s: float = 0.5
    most_s: float = 60.0

    def wait_s(self, failed: int) -> float:
        """Seconds to wait after so many failed tries."""
        return min(self.most_s, self.backoff_s * 2.0 ** (failed - 1)) * random.uniform(0.75, 1.25)


Step = httpx.Request | float
"""What is to be done next: send a request, or wait for some seconds."""

Outcome = httpx.Response | httpx.TransportError | None
"""What came of it; None of a wait."""


class _Connection:
    """What both clients know: where the service is, and how a request to it is written."""

    def __init__(self, url: str, key: str | None, retries: Retries) -> None:
        self.retries = retries
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{url!r} is not a URL: give one as in http://127.0.0.1:8080") from error
        if base.userinfo or base.query or base.fragment:
            raise ValueError("the URL holds more than an address: give the key by itself, as in Client(url, key)")
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"{url!r} is not a web address: give one as in http://127.0.0.1:8080")
        self.url = str(base).rstrip("/")
        self.headers = {"User-Agent": USER_AGENT, "Accept": "application/json, */*;q=0.5"}
        if key:
            # Checked here, because the errors of what sends it repeat it.
            if not all("!" <= character <= "~" for character in key):
                raise ValueError("the key holds blanks or characters that no key has: copy it again")
            self.headers["Authorization"] = f"Bearer {key}"

    def conversation(
        self, http: httpx.Client | httpx.AsyncClient, call: Call[T], timeout: httpx.Timeout | None = None
    ) -> Generator[Step, Outcome, httpx.Response]:
        """Decide step by step what one call does; returns its answer, or raises what it came to."""
        failed, waited_s = 0, 0.0
        while True:
            outcome = yield self._request(http, call, timeout)
            if isinstance(outcome, httpx.Response):
                if outcome.is_success or outcome.status_code in call.also:
                    return outcome
                error = error_of(outcome)
                if error.code == _IN_FLIGHT and call.replayable and waited_s < IN_FLIGHT_S:
                    # An earlier try, whose connection broke, is still being worked on: its answer is ours.
                    pause_s = error.retry_after or self.retries.wait_s(1)
                    waited_s += pause_s
                    yield pause_s
                    continue
            failed += 1
            wait_s = self._wait_s(call, outcome, failed)
            if wait_s is None:
                raise _error(outcome, failed, self.url)
            yield wait_s

    def _request(
        self, http: httpx.Client | httpx.AsyncClient, call: Call[T], timeout: httpx.Timeout | None
    ) -> httpx.Request:
        headers = dict(call.headers)
        content: Iterator[bytes] | AsyncIterator[bytes] | None = None
        if call.body is not None:
            headers["Content-Type"] = call.body.content_type
            if call.body.size_bytes is not None:
                headers["Content-Length"] = str(call.body.size_bytes)
            content = call.body.blocks() if isinstance(http, httpx.Client) else _in_thread(call.body.blocks())
        return http.build_request(
            call.method,
            self.url + call.path,
            params=call.query or None,
            headers=headers,
            json=call.json,
            content=content,
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
        )

    def _wait_s(self, call: Call[T], outcome: Outcome, failed: int) -> float | None:
        """Seconds until the next try; None where there is none."""
        if failed >= self.retries.tries or not call.replayable:
            return None
        if not isinstance(outcome, httpx.Response):
            return self.retries.wait_s(failed) if isinstance(outcome, _BROKEN) else None
        error = error_of(outcome)
        if error.status not in _LATER:
            return None
        if error.retry_after is None:
            return self.retries.wait_s(failed)
        # Everybody who was refused at one moment is told the same: come back spread out, and never early.
        wait_s = error.retry_after + random.uniform(0, self.retries.backoff_s)
        return wait_s if error.retry_after <= self.retries.most_s else None


def _error(outcome: Outcome, failed: int, url: str) -> ApiError | ConnectionFailed | UnexpectedAnswer:
    if isinstance(outcome, httpx.Response):
        if outcome.status_code < 400:
            return UnexpectedAnswer(
                f"{url} answered {outcome.status_code} to {outcome.request.method} {outcome.request.url.path}: "
                "is it the address of the service itself?"
            )
        return error_of(outcome)
    reason = str(outcome) or type(outcome).__name__
    tries = "" if failed == 1 else f" ({failed} tries)"
    error = ConnectionFailed(f"{url} cannot be reached{tries}: {reason}")
    error.__cause__ = outcome
    return error


async def _in_thread(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read blocks from a disk without holding up the event loop."""
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block


class Connection(_Connection):
    """The blocking way."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: httpx.Timeout | float | None,
        retries: Retries,
        transport: httpx.BaseTransport | None,
    ) -> None:
        super().__init__(url, key, retries)
        self._http = httpx.Client(
            headers=self.headers, timeout=TIMEOUT if timeout is None else timeout, transport=transport
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a request, again where that helps, and read the answer."""
        return call.read(self._converse(call, stream=False))

    @contextmanager
    def stream(self, call: Call[T]) -> Iterator[httpx.Response]:
        """Send a request and hand out the answer before its body was read."""
        response = self._converse(call, stream=True)
        try:
            yield response
        finally:
            response.close()

    def _converse(self, call: Call[T], *, stream: bool) -> httpx.Response:
        conversation = self.conversation(self._http, call, STREAM_TIMEOUT if stream else None)
        outcome: Outcome = None
        try:
            step = next(conversation)
            while True:
                if isinstance(step, httpx.Request):
                    try:
                        outcome = self._http.send(step, stream=stream)
                        if not outcome.is_success:
                            outcome.read()
                    except httpx.TransportError as error:
                        outcome = error
                else:
                    time.sleep(step)
                    outcome = None
                step = conversation.send(outcome)
        except StopIteration as end:
            answer: httpx.Response = end.value
            return answer


class AsyncConnection(_Connection):
    """The asynchronous way (asyncio)."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: httpx.Timeout | float | None,
        retries: Retries,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        super().__init__(url, key, retries)
        self._http = httpx.AsyncClient(
            headers=self.headers, timeout=TIMEOUT if timeout is None else timeout, transport=transport
        )

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a request, again where that helps, and read the answer."""
        return call.read(await self._converse(call, stream=False))

    @asynccontextmanager
    async def stream(self, call: Call[T]) -> AsyncIterator[httpx.Response]:
        """Send a request and hand out the answer before its body was read."""
        response = await self._converse(call, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _converse(self, call: Call[T], *, stream: bool) -> httpx.Response:
        conversation = self.conversation(self._http, call, STREAM_TIMEOUT if stream else None)
        outcome: Outcome = None
        try:
            step = next(conversation)
            while True:
                if isinstance(step, httpx.Request):
                    try:
                        outcome = await self._http.send(step, stream=stream)
                        if not outcome.is_success:
                            await outcome.aread()
                    except httpx.TransportError as error:
                        outcome = error
                else:
                    await asyncio.sleep(step)
                    outcome = None
                step = conversation.send(outcome)
        except StopIteration as end:
            answer: httpx.Response = end.value
            return answer
