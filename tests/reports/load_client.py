"""Many clients that ask at once, in one process that costs little: `python -m tests.reports.load_client PLAN.json`.

The plan names host, port, clients, seconds and files that hold whole HTTP requests. Every client keeps one connection
and sends the next request when the answer is there. Standard library only: it shares the machine with the server.
Prints one JSON document.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Tally:
    """What the clients saw."""

    latencies_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    answers: dict[int, Any] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        """Count an answer that is none."""
        self.errors[what] = self.errors.get(what, 0) + 1


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send one request and read its answer: status and body."""
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    status = int(head[0].split(b" ", 2)[1])
    length = next(int(line[15:]) for line in head if line[:15].lower() == b"content-length:")
    return status, await reader.readexactly(length)


async def client(number: int, plan: dict[str, Any], requests: list[bytes], until: float, tally: Tally) -> None:
    """Ask again and again on one connection; a request that began before the end is waited for."""
    turn = number
    while time.monotonic() < until:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(plan["host"], plan["port"])
            while time.monotonic() < until:
                which = turn % len(requests)
                turn += plan["clients"]
                began = time.perf_counter()
                status, body = await ask(reader, writer, requests[which])
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


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Run the plan and report."""
    requests = [await asyncio.to_thread(Path(path).read_bytes) for path in plan["requests"]]
    tally = Tally()
    began = time.monotonic()
    until = began + plan["seconds"]
    await asyncio.gather(*(client(number, plan, requests, until, tally) for number in range(plan["clients"])))
    elapsed_s = time.monotonic() - began
    return {
        "answers": [tally.answers.get(which) for which in range(len(requests))],
        "requests": len(tally.latencies_s),
        "elapsed_s": elapsed_s,
        "latencies_s": sorted(tally.latencies_s),
        "errors": tally.errors,
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))
