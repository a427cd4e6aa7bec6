"""What a job survives: `python -m tests.reports.kill [--files 500] [--workers 2] [--kills 20] [--seed 1]`.

Makes as many recordings of different content, starts a real Postgres, Redis, API, beat and workers, and posts one job
over HTTP. While it runs, `kill -9` ends a random worker at random moments, with its supervisor or
without it; in between Redis is
restarted with its memory lost, and Postgres once. Whatever died is started again, as a supervisor would; nothing else
is done by hand. At the end exactly those recordings must be there, none twice, the index must hold the vectors of the
record, and nothing may be left undone. Prints what happened as JSON; exit status 1 tells that something was wrong.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from api.cli.local_service import LocalService
from tests.conftest import REPOSITORY
from tests.cut_speech import write_cuts
from tests.service_stack import (
    agree,
    client_of,
    impatient,
    kill_worker,
    kill_workers_while,
    running_service,
    voxdex,
)
from tests.slow_writes import slow_postgres_writes
from voxdex_client import Client, errors

GALLERY = "killed"
ENDED = {"succeeded", "succeeded_with_errors", "failed", "canceled"}


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Do everything, and return what happened."""
    archive = folder / "archive"
    write_cuts(archive, arguments.files, arguments.file_s, arguments.speech)
    settings = {
        # Shorter than in production, where a shard is ten minutes of audio and a dead worker is noticed in half a
        # minute: otherwise most of this would be waiting for leases to end.
        "VOXDEX_JOBS__SHARD_AUDIO_S": str(arguments.shard_audio_s),
        "VOXDEX_JOBS__LEASE_S": str(arguments.lease_s),
        "VOXDEX_JOBS__SWEEP_S": "1",
        "VOXDEX_JOBS__SOURCES": json.dumps([str(archive)]),
        # A file on which so many workers die as are killed here is not a poisonous one.
        "VOXDEX_JOBS__TRIES": "10",
    }
    with (
        running_service(folder / "service", workers=arguments.workers, settings=settings) as service,
        client_of(service) as client,
        impatient(service) as watcher,
    ):
        client.galleries.create(GALLERY)
        files = sorted(archive.rglob("*.wav"))
        client.identify(GALLERY, files[0])  # The API opens the gallery's index now, and has to follow all that comes.
        if arguments.write_s:
            slow_postgres_writes(service.environment["VOXDEX_DATABASE__URL"], arguments.write_s)
        began = time.monotonic()
        job = client.jobs.create(GALLERY, str(archive)).id
        watch = Watch(service, watcher, job)
        events = disturb(watch, arguments)
        state = wait_for_end(watch, began + arguments.limit_s)
        took_s = time.monotonic() - began
        report = {
            "files": arguments.files,
            "workers": arguments.workers,
            "kills": len(events["kills"]),
            "redis_restarts": events["redis"],
            "postgres_restarts": events["postgres"],
            "seed": arguments.seed,
            "took_s": round(took_s, 1),
            "job": state,
            "killed_at_done": events["kills"],
            **count(service, job),
        }
        report["live_index"] = follow(client, report["embeddings"])
        sample = random.Random(arguments.seed).sample(files, min(10, len(files)))
        report["found_again"] = sum(is_found(client, path) for path in sample)
        report["index"] = voxdex(service, "index", "check", "--gallery", GALLERY)
    report["wrong"] = wrong(report, arguments)
    return report


@dataclass(frozen=True)
class Watch:
    """Keeps the service running, as whoever supervises it would, and asks how far its job is."""

    service: LocalService
    client: Client
    job: int

    def look(self) -> dict[str, Any] | None:
        """Start again what has died; return the job, or None while nobody answers."""
        self.service.tick()
        try:
            return self.client.jobs.get(self.job).model_dump(mode="json")
        except errors.VoxdexError:
            return None

    def has_ended(self) -> bool:
        """Tell whether the job is known to be over."""
        job = self.look()
        return job is not None and job["state"] in ENDED

    def kill_at_work(self) -> bool:
        """Kill every worker if one of them holds a shard, and tell whether one did."""
        return kill_workers_while(self.service, lambda: count(self.service, self.job)["shards_running"] > 0)


def disturb(watch: Watch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill workers and restart servers while the job runs, each when a random share of the files is done."""
    rng = random.Random(arguments.seed)
    plan = sorted((rng.uniform(0.0, 0.85) * arguments.files, "kill") for _ in range(arguments.kills))
    plan.append((rng.uniform(0.2, 0.4) * arguments.files, "redis"))
    if arguments.postgres:
        plan.append((rng.uniform(0.5, 0.7) * arguments.files, "postgres"))
    happened: dict[str, Any] = {"kills": [], "redis": 0, "postgres": 0}
    deadline = time.monotonic() + arguments.limit_s
    for due, what in sorted(plan):
        done = 0
        while time.monotonic() < deadline:
            job = watch.look()
            if job is not None:
                done = job["done"] + job["failed"] + job["duplicate"]
                if job["state"] in ENDED or done >= due:
                    break
            time.sleep(0.05)
        # Not just after a commit, which is when progress is seen: anywhere in a worker's life, its start included.
        pause_until = time.monotonic() + rng.uniform(0.0, arguments.jitter_s)
        while time.monotonic() < pause_until:
            watch.service.tick()
            time.sleep(0.05)
        if what == "kill" and arguments.at_work and not happened["kills"]:
            while not (watch.kill_at_work() or watch.has_ended()) and time.monotonic() < deadline:
                time.sleep(0.05)
            happened["kills"].append(done)
        elif what == "kill":
            # A machine that goes away takes all of a worker; the kernel, short of memory, what holds most of it.
            number, all_of_it = 1 + rng.randrange(arguments.workers), rng.random() < 0.5
            kill_worker(watch.service, number, with_supervisor=all_of_it)
            happened["kills"].append(done)
        elif what == "redis":
            watch.service.redis.restart()
            happened["redis"] += 1
        else:
            watch.service.postgres.restart()
            happened["postgres"] += 1
    return happened


def wait_for_end(watch: Watch, deadline: float) -> dict[str, Any]:
    """Wait until the job has ended, or the time is up."""
    job: dict[str, Any] = {"state": "never answered"}
    while time.monotonic() < deadline and job["state"] not in ENDED:
        job = watch.look() or job
        time.sleep(0.2)
    return job


def follow(client: Client, vectors: int) -> dict[str, Any]:
    """Return what the API's own index holds, as soon as that is everything or after a minute; a second is usual."""
    until = time.monotonic() + 60.0
    while True:
        index = client.readiness().index
        held = sum(gallery.vectors for gallery in index.galleries)
        if held == vectors or time.monotonic() > until:
            return {"vectors": held, "behind": sum(gallery.changes_behind for gallery in index.galleries)}
        time.sleep(0.1)


def is_found(client: Client, path: Path) -> bool:
    """Tell whether a file's own recording is what the service finds first for it."""
    found = client.search(GALLERY, path, limit=1).recordings
    return bool(found) and found[0].uri == str(path) and found[0].score > 0.999


def count(service: LocalService, job: int) -> dict[str, Any]:
    """Count in the record itself what is there."""
    questions = {
        "recordings": "SELECT count(*) FROM recordings",
        "ready": "SELECT count(*) FROM recordings WHERE state = 'ready'",
        "contents": "SELECT count(DISTINCT content_sha256) FROM recordings",
        "uris": "SELECT count(DISTINCT uri) FROM recordings",
        "without_vectors": "SELECT count(*) FROM recordings r WHERE NOT EXISTS (SELECT 1 FROM utterances u "
        "JOIN embeddings e ON e.utterance_id = u.id WHERE u.recording_id = r.id)",
        "utterances": "SELECT count(*) FROM utterances",
        "embeddings": "SELECT count(*) FROM embeddings",
        "items": f"SELECT count(*) FROM job_items WHERE job_id = {job}",
        "items_done": f"SELECT count(*) FROM job_items WHERE job_id = {job} AND state = 'done'",
        "items_to_recordings": "SELECT count(DISTINCT recording_id) FROM job_items WHERE state = 'done'",
        "shards": f"SELECT count(*) FROM job_shards WHERE job_id = {job}",
        "shards_open": f"SELECT count(*) FROM job_shards WHERE job_id = {job} AND state <> 'done'",
        "shards_running": f"SELECT count(*) FROM job_shards WHERE job_id = {job} AND state = 'running'",
        "shards_tried_again": f"SELECT count(*) FROM job_shards WHERE job_id = {job} AND (attempts > 0 OR solo)",
    }
    engine = create_engine(service.environment["VOXDEX_DATABASE__URL"])
    try:
        with engine.connect() as connection:
            return {name: connection.execute(text(question)).scalar_one() for name, question in questions.items()}
    finally:
        engine.dispose()


def wrong(report: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """Say everything that is not as it must be."""
    files = arguments.files
    expected = {
        "recordings": files,
        "ready": files,
        "contents": files,
        "uris": files,
        "without_vectors": 0,
        "items": files,
        "items_done": files,
        "items_to_recordings": files,
        "shards_open": 0,
        "kills": arguments.kills,
        "redis_restarts": 1,
        "postgres_restarts": int(arguments.postgres),
    }
    found = [f"{name} is {report[name]}, not {value}" for name, value in expected.items() if report[name] != value]
    job = {"state": "succeeded", "found": files, "done": files, "failed": 0, "duplicate": 0}
    found += [f"the job's {k} is {report['job'].get(k)}, not {v}" for k, v in job.items() if report["job"].get(k) != v]
    if report["embeddings"] != report["utterances"]:
        found.append(f"{report['embeddings']} embeddings of {report['utterances']} utterances")
    if report["live_index"] != {"vectors": report["embeddings"], "behind": 0}:
        found.append(f"the API searches {report['live_index']}, the record holds {report['embeddings']} vectors")
    if report["found_again"] != min(10, files):
        found.append(f"{report['found_again']} of {min(10, files)} recordings are found by their own voice")
    index = report["index"]
    if not (agree(index) and index["recorded"] == report["embeddings"]):
        found.append(f"the index is not the record: {index}")
    return found


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--file-s", type=float, default=4.0, help="seconds of each recording")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--no-postgres", dest="postgres", action="store_false", help="leave Postgres alone")
    parser.add_argument("--at-work", action="store_true", help="first kill all workers while one holds a shard")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jitter-s", type=float, default=3.0, help="longest wait between a commit and a kill")
    parser.add_argument("--shard-audio-s", type=float, default=100.0)
    parser.add_argument("--lease-s", type=float, default=4.0)
    parser.add_argument("--write-s", type=float, default=0.0, help="what writing a vector takes besides")
    parser.add_argument("--limit-s", type=float, default=1200.0, help="when to give up waiting")
    parser.add_argument("--speech", type=Path, default=REPOSITORY.parent / "shared" / "data" / "speech")
    return parser.parse_args(words)


def main() -> int:
    """Run, and print the report."""
    arguments = parse()
    with tempfile.TemporaryDirectory(prefix="voxdex-kill-") as folder:
        Path(folder).chmod(0o755)
        report = run(arguments, Path(folder))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
