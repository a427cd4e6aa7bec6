"""How fast the service identifies many voices at once: `python -m tests.reports.load [--clients 64] [--seconds 60]`.

A real server process with the real weights, and clients in a process of their own, each of which sends its next probe
when the last is answered. Before and after, while the server is idle, a process with the same thread settings embeds
the same probes in batches without any service around it. Prints throughput, the share of the encoder's own, errors,
and how long a client waited; `--json` prints them as a document.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from api.bench.apart import run_apart
from api.cli.local_service import LocalService
from tests.conftest import REPOSITORY
from tests.cut_speech import Cut, cut_speech
from tests.service_stack import client_of, running_service

GALLERY = "load"


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def encoder_throughput(probes: Path, environment: dict[str, str], seconds: float) -> float:
    """Measure probes a second of the encoder alone, in a fresh process."""
    command = [sys.executable, "-m", "tests.reports.load", "--measure-encoder", str(probes), "--seconds", str(seconds)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=seconds + 180
    )
    if done.returncode != 0:
        raise RuntimeError(f"the encoder could not be measured: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["probes_per_s"])


def measure_encoder(probes: Path, seconds: float) -> dict[str, float]:
    """Embed the probes of a folder in batches as large as the service's, again and again; the median batch counts."""
    import soundfile

    from api.dependencies import Services
    from indexer.settings import load_settings

    settings = load_settings()
    encoder = Services(settings).comparison(None).encoder
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in sorted(probes.glob("*.wav"))]
    size = settings.probes.batch
    batches = [[waveforms[(first + k) % len(waveforms)] for k in range(size)] for first in range(0, 8 * size, size)]
    for batch in batches[:3]:
        encoder.embed(batch)
    took, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        encoder.embed(batches[len(took) % len(batches)])
        took.append(time.perf_counter() - start)
    return {"probes_per_s": size * len(took) / sum(took), "median_probes_per_s": size / float(np.median(took))}


def request_bytes(service: LocalService, cut: Cut) -> bytes:
    """Make a whole HTTP request that identifies a voice."""
    head = (
        f"POST /v1/galleries/{GALLERY}/identify?filename={quote(cut.name)} HTTP/1.1",
        f"Host: {service.url.removeprefix('http://')}",
        f"Authorization: Bearer {service.key}",
        "Content-Type: audio/wav",
        f"Content-Length: {len(cut.wav)}",
    )
    return "\r\n".join((*head, "", "")).encode() + cut.wav


def ask_at_once(service: LocalService, requests: list[Path], clients: int, seconds: float) -> dict[str, Any]:
    """Run the clients in their own process and return what they saw."""
    port = int(service.url.rpartition(":")[2])
    paths = [str(path) for path in requests]
    seen: dict[str, Any] = run_apart(
        "ask", limit_s=seconds + 180, host="127.0.0.1", port=port, requests=paths, clients=clients, seconds=seconds
    )
    return seen


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Do everything, and return the figures."""
    cuts = cut_speech(arguments.speech, arguments.probe_s, of_each=2)
    taken: dict[str, list[Cut]] = {}
    for cut in islice(cuts, 40 * arguments.speakers):
        taken.setdefault(cut.speaker, []).append(cut)
        if sum(len(own) == 2 for own in taken.values()) == arguments.speakers:
            break
    pairs = [own for own in taken.values() if len(own) == 2] or [[own[0], own[0]] for own in taken.values()]
    probes = folder / "probes"
    probes.mkdir()
    settings = {
        "VOXDEX_API__RATE_LIMIT_PER_MINUTE": "1000000",
        **({"VOXDEX_EMBEDDING__THREADS": str(arguments.threads)} if arguments.threads else {}),
    }
    with running_service(folder / "service", workers=0, settings=settings) as service, client_of(service) as client:
        client.galleries.create(GALLERY)
        requests = []
        for number, (enrolled, probe) in enumerate(pairs[: arguments.speakers]):
            client.enrollments.create(GALLERY, enrolled.speaker, enrolled.wav)
            (probes / f"{number:04}.wav").write_bytes(probe.wav)
            requests.append(folder / f"{number:04}.http")
            requests[-1].write_bytes(request_bytes(service, probe))
        before = encoder_throughput(probes, service.environment, arguments.encoder_seconds)
        warm = ask_at_once(service, requests, arguments.clients, 3.0)
        seen = ask_at_once(service, requests, arguments.clients, arguments.seconds)
        after = encoder_throughput(probes, service.environment, arguments.encoder_seconds)
    latencies = np.array(seen["latencies_s"])
    throughput = seen["requests"] / seen["elapsed_s"]
    right = sum(
        answer == ["identified", enrolled.speaker]
        for answer, (enrolled, _) in zip(seen["answers"], pairs, strict=False)
        if answer
    )
    return {
        "clients": arguments.clients,
        "seconds": round(seen["elapsed_s"], 2),
        "probe_s": arguments.probe_s,
        "speakers": len(requests),
        "cpu_count": os.cpu_count(),
        "requests": seen["requests"],
        "errors": sum(seen["errors"].values()) + sum(warm["errors"].values()),
        "kinds_of_errors": {**warm["errors"], **seen["errors"]},
        "probes_per_s": round(throughput, 2),
        "encoder_probes_per_s_before": round(before, 2),
        "encoder_probes_per_s_after": round(after, 2),
        "share_of_encoder": round(throughput / ((before + after) / 2), 4),
        "latency_p50_s": round(float(np.percentile(latencies, 50)), 3),
        "latency_p99_s": round(float(np.percentile(latencies, 99)), 3),
        "latency_max_s": round(float(latencies.max()), 3),
        "client_cpu_share": round(seen["cpu_s"] / seen["elapsed_s"], 3),
        "identified_right": right,
    }


def main() -> int:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--encoder-seconds", type=float, default=15.0, help="of each measurement of the encoder alone")
    parser.add_argument("--probe-s", type=float, default=3.0)
    parser.add_argument("--speakers", type=int, default=32)
    parser.add_argument("--threads", type=int, default=0, help="VOXDEX_EMBEDDING__THREADS; 0: torch's choice")
    parser.add_argument("--speech", type=Path, default=REPOSITORY.parent / "shared" / "data" / "speech")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure-encoder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_encoder is not None:
        say(json.dumps(measure_encoder(arguments.measure_encoder, arguments.seconds)))
        return 0
    with tempfile.TemporaryDirectory(prefix="voxdex-load-") as folder:
        figures = measure(arguments, Path(folder))
    if arguments.json:
        say(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        for name, value in figures.items():
            say(f"{name:28} {value}")
    return 0 if figures["errors"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
