"""Many clients that ask at once, in one process that costs little: it shares the machine with the server.

Every client keeps one connection and sends the next request when the answer is there. Standard library only.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class _Tally:
    """What the clients saw."""

    latencies_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    answers: dict[int, Any] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1


def ask(host: str, port: int, requests: Sequence[str], clients: int, seconds: float, first: int = 0) -> dict[str, Any]:
    """Send whole HTTP requests, which are read from files, again and again; return what came of it.

    Parameters
    ----------
    first
        How many were sent before: with which of them to go on.

    Returns
    -------
    dict
        `latencies_s` of every request, rising; `requests`, `elapsed_s`, `errors` by kind, `cpu_s` of this process, and
        for each request the `answers`: decision and speaker.
    """
    return asyncio.run(_run(host, port, [Path(path).read_bytes() for path in requests], clients, seconds, first))


async def _run(host: str, port: int, requests: list[bytes], clients: int, seconds: float, first: int) -> dict[str, Any]:
    tally = _Tally()
    began = time.monotonic()
    until = began + seconds
    await asyncio.gather(
        *(_client(first + number, clients, host, port, requests, until, tally) for number in range(clients)),
    )
    return {
        "answers": [tally.answers.get(which) for which in range(len(requests))],
        "requests": len(tally.latencies_s),
        "elapsed_s": time.monotonic() - began,
        "latencies_s": sorted(tally.latencies_s),
        "errors": tally.errors,
        "cpu_s": time.process_time(),
    }


async def _client(
    number: int, clients: int, host: str, port: int, requests: list[bytes], until: float, tally: _Tally
) -> None:
    """Ask again and again on one connection; a request that began before the end is waited for."""
    turn = number
    while time.monotonic() < until:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(host, port)
            while time.monotonic() < until:
                which = turn % len(requests)
                turn += clients
                began = time.perf_counter()
                status, body = await _ask(reader, writer, requests[which])
                tally.latencies_s.append(time.perf_counter() - began)
                if status != 200:
                    tally.wrong(f"{status} {json.loads(body).get('code')}")
                    continue
                document = json.loads(body)
                answer = [document["decision"], document["speaker"]]
                if tally.answers.setdefault(which, answer) != answer:
                    tally.wrong(f"another answer to the same probe: {answer}, before {tally.answers[which]}")
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            tally.wrong(f"connection: {type(error).__name__}: {error}")
            await asyncio.sleep(0.1)
        finally:
            if writer is not None:
                writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send one request and read its answer: status and body."""
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    status = int(head[0].split(b" ", 2)[1])
    length = next(int(line[15:]) for line in head if line[:15].lower() == b"content-length:")
    return status, await reader.readexactly(length)
