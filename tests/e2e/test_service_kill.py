"""A job outlives its workers, Redis's memory and Postgres: a short form of `python -m tests.reports.kill`."""

from pathlib import Path

import pytest

from tests.reports.kill import parse, run

pytestmark = [pytest.mark.postgres, pytest.mark.real_weights]


def test_a_job_whose_workers_are_killed_ends_with_every_file_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, default_weights: Path
) -> None:
    words = "--files 40 --file-s 6 --kills 4 --at-work --jitter-s 1 --shard-audio-s 60 --lease-s 4 --seed 20261122"
    # Writing is slow, so that there is a job to kill workers of, however quick the encoder is.
    arguments = parse([*words.split(), "--write-s", "0.2"])
    report = run(arguments, tmp_path_factory.mktemp("kill"))
    assert report["wrong"] == [], report
    assert report["kills"] == 4
    assert report["shards_tried_again"] > 0, "no worker was killed at work"
