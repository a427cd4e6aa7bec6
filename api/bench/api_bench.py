"""How fast the service identifies voices: requests by how many ask at once, beside the encoder alone."""

import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from api.bench.apart import run_apart
from api.bench.api_clients import ask
from api.bench.beginnings import beginnings
from api.bench.machine import Measured
from api.bench.own_home import environment_of, make_own_home
from api.cli.output import counted, print_line, print_table
from indexer.errors import InvalidRequest, Unavailable
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, Waveform

if TYPE_CHECKING:
    from api.dependencies import Services

_GALLERY = "bench"
_READY_S = 120.0
_TURN_S = 1.0
"""How long requests are sent before it is the encoder's turn, and the other way round: what else the machine does
meets both."""


@dataclass(frozen=True, slots=True)
class ApiRow:
    """Requests of so many clients, each of which sends its next one when the last is answered.

    Attributes
    ----------
    encoder_s
        What the encoder alone takes for one utterance of the probe's length, in turns with the requests: the median.
    p50_by_encoder
        Median wait in times of that.
    """

    clients: int
    requests: int
    errors: int
    errors_by_kind: Mapping[str, int]
    requests_per_s: float
    p50_s: float
    p99_s: float
    encoder_s: float
    p50_by_encoder: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFigures(Measured):
    """Everything that was measured, with what is needed to repeat it."""

    encoder: str
    probe_s: float
    speakers: int
    named_right: int
    rows: tuple[ApiRow, ...]


def run_api_bench(
    services: "Services",
    paths: Sequence[Path],
    *,
    clients: Sequence[int],
    probe_s: float,
    speakers: int,
    seconds: float,
) -> ApiFigures:
    """Serve a gallery on SQLite from a process of its own, and ask it who speaks.

    Of each recording the beginning is enrolled and the following stretch of the same length is the probe.

    Raises
    ------
    InvalidRequest
        If no recording is long enough.
    Unavailable
        If the service does not start, or answers nothing.
    """
    with tempfile.TemporaryDirectory(prefix="voxdex-bench-") as name:
        folder = Path(name)
        pairs = list(_pairs(services, paths, probe_s, speakers))
        if not pairs:
            raise InvalidRequest(f"no recording of {2 * probe_s:g} s or more: give longer ones, or a shorter --probe-s")
        settings = make_own_home(services.settings, folder / "home")
        encoder_id = _enroll(settings, folder, pairs)
        probes = []
        for number, (_, probe) in enumerate(pairs):
            probes.append(folder / f"{number:04}.wav")
            probes[-1].write_bytes(_wav(probe))
        environment = environment_of(settings, os.environ)
        with _served(folder, environment) as port:
            requests = [_written_request(path, port) for path in probes]
            asked: dict[str, Any] = {"host": "127.0.0.1", "port": port, "requests": requests}
            run_apart("ask", **asked, clients=2, seconds=3.0)
            in_turns: dict[str, Any] = {**asked, "probes": [str(path) for path in probes], "seconds": seconds}
            in_turns["home"] = str(settings.home)  # where a user's own encoder has its name
            seen = [run_apart("ask_in_turns", **in_turns, clients=count) for count in clients]
            _require_answers(seen)
    right = sum(
        answer == ["identified", speaker]
        for (speaker, _), answer in zip(_named(pairs), seen[0]["answers"], strict=True)
    )
    rows = []
    for count, told in zip(clients, seen, strict=True):
        p50_s, p99_s = (float(np.percentile(told["latencies_s"] or [np.nan], share)) for share in (50, 99))
        encoder_s = float(np.median(told["encoder_s"]))
        rows.append(
            ApiRow(
                clients=count,
                requests=told["requests"],
                errors=sum(told["errors"].values()),
                errors_by_kind=dict(told["errors"]),
                requests_per_s=told["requests"] / told["elapsed_s"],
                p50_s=p50_s,
                p99_s=p99_s,
                encoder_s=encoder_s,
                p50_by_encoder=p50_s / encoder_s,
            )
        )
    return ApiFigures(
        encoder=encoder_id,
        probe_s=probe_s,
        speakers=len(pairs),
        named_right=right,
        rows=tuple(rows),
    )


def ask_in_turns(
    host: str, port: int, requests: Sequence[str], clients: int, seconds: float, probes: Sequence[str], home: str
) -> dict[str, Any]:
    """Send requests as `ask` does, for so many seconds in all, and embed the same probes one by one in between.

    Returns
    -------
    dict
        What `ask` returns, and `encoder_s`: the seconds of each probe that was embedded.
    """
    import soundfile

    from api.dependencies import open_services

    with open_services(home=Path(home)) as services:
        encoder = services.comparison(None).encoder
        waveforms = [soundfile.read(path, dtype="float32")[0] for path in probes]
        for waveform in waveforms[:3]:
            encoder.embed([waveform])
        told: dict[str, Any] = {"latencies_s": [], "errors": Counter(), "requests": 0, "elapsed_s": 0.0}
        taken: list[float] = []
        answers: list[Any] = [None] * len(requests)
        while told["elapsed_s"] < seconds:
            until = time.perf_counter() + _TURN_S
            while (began := time.perf_counter()) < until:
                encoder.embed([waveforms[len(taken) % len(waveforms)]])
                taken.append(time.perf_counter() - began)
            more = ask(host, port, requests, clients, _TURN_S, told["requests"])
            told["errors"].update(more["errors"])
            for name in ("latencies_s", "requests", "elapsed_s"):
                told[name] += more[name]
            for which, answer in enumerate(more["answers"]):
                if answer is not None and answers[which] not in (None, answer):
                    told["errors"]["another answer to the same probe"] += 1
                answers[which] = answer or answers[which]
    return {**told, "answers": answers, "encoder_s": taken}


def _pairs(
    services: "Services", paths: Sequence[Path], probe_s: float, most: int
) -> Iterator[tuple[Waveform, Waveform]]:
    for waveform in islice(beginnings(paths, 2 * probe_s, services.settings.audio), most):
        half = len(waveform) // 2
        yield waveform[:half], waveform[half:]


def _require_answers(seen: Sequence[Mapping[str, Any]]) -> None:
    """Refuse figures of answers that are all errors."""
    for told in seen:
        if sum(told["errors"].values()) >= told["requests"]:
            what = ", ".join(f"{why} ({count} times)" for why, count in told["errors"].items()) or "no answer in time"
            raise Unavailable(f"no identification succeeded, so there is nothing to measure: {what}")


def _named(pairs: Sequence[tuple[Waveform, Waveform]]) -> list[tuple[str, Waveform]]:
    return [(f"speaker {number}", enrolled) for number, (enrolled, _) in enumerate(pairs)]


def _enroll(settings: Settings, folder: Path, pairs: Sequence[tuple[Waveform, Waveform]]) -> str:
    """Fill the gallery that is served; return the encoder's id."""
    from api.dependencies import Services
    from indexer.archive import ArchiveFile

    apart = Services(settings)
    try:
        files = []
        for speaker, enrolled in _named(pairs):
            path = folder / f"{speaker}.wav"
            path.write_bytes(_wav(enrolled))
            files.append(ArchiveFile(path, speaker, path.stat().st_size))
        ingest = apart.ingest(_GALLERY, None)
        ingest.run(files, source="bench")
        apart.indexes.bring_into_step(_GALLERY)
        return ingest.encoders_for(ingest.gallery_id).first.id
    finally:
        apart.close()


@contextmanager
def _served(folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run the service over the gallery, and yield its port once it is ready."""
    import httpx

    from api.cli.local_servers import free_port
    from worker.supervisor import Program, Supervisor, python

    port = free_port()
    environment = {
        **environment,
        "VOXDEX_API__HOST": "127.0.0.1",
        "VOXDEX_API__PORT": str(port),
        "VOXDEX_API__RATE_LIMIT_PER_MINUTE": "100000000",
        "VOXDEX_LOGGING__LEVEL": "WARNING",
    }
    program = Program(
        name="api", command=python("api.cli.main", "serve"), environment=environment, log=folder / "api.log"
    )
    supervisor = Supervisor([program])
    supervisor.start()
    try:
        until = time.monotonic() + _READY_S
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).is_success:
                    break
            if program.ended() is not None or time.monotonic() > until:
                last = (folder / "api.log").read_text(errors="replace").splitlines()[-3:]
                raise Unavailable(f"the service did not come up: {' '.join(last) or 'it says nothing'}")
            time.sleep(0.1)
        yield port
    finally:
        supervisor.end(30.0)


def _written_request(probe: Path, port: int) -> str:
    """Write a whole HTTP request that identifies a voice, and return where."""
    audio = probe.read_bytes()
    head = (
        f"POST /v1/galleries/{_GALLERY}/identify?filename={quote(probe.name)} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: audio/wav",
        f"Content-Length: {len(audio)}",
    )
    path = probe.with_suffix(".http")
    path.write_bytes("\r\n".join((*head, "", "")).encode() + audio)
    return str(path)


def _wav(samples: Waveform) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def print_api_bench(figures: ApiFigures) -> None:
    """Print the figures."""
    print_line(figures.heading)
    print_line(
        f"encoder {figures.encoder}, probes of {figures.probe_s:g} s; {figures.named_right} of {figures.speakers} "
        "named right, each recording being taken for a person of its own"
    )
    print_table(
        ["clients", "requests", "errors", "requests/s", "p50 ms", "p99 ms", "encoder ms", "p50 by encoder"],
        [
            [
                row.clients,
                row.requests,
                row.errors,
                f"{row.requests_per_s:.1f}",
                f"{1000 * row.p50_s:.1f}",
                f"{1000 * row.p99_s:.1f}",
                f"{1000 * row.encoder_s:.1f}",
                f"{row.p50_by_encoder:.2f}",
            ]
            for row in figures.rows
        ],
    )
    for row in figures.rows:
        for kind, count in row.errors_by_kind.items():
            print_line(f"{counted(row.clients, 'client')}: {kind} ({count} times)")
