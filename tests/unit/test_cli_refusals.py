"""What a command cannot do is refused before it opens, reads or hears anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.main import app
from indexer.errors import InvalidRequest

FILE = "FILE"  # In place of the path of a file that is there.


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["identify", "x.wav", "--fpir", "0"], "error rate 0 is out of range"),
        (["identify", "x.wav", "--possible-fpir", "1"], "error rate 1 is out of range"),
        (["identify", "x.wav", "--threshold", "2"], "no cosine"),
        (["identify", "x.wav", "--top-k", "0"], "top_k 0"),
        (["identify", "x.wav", "--speakers", "30"], "1 to 20"),
        (["verify", "x.wav", "-s", "Ann", "--p-fa", "0"], "error rate 0 is out of range"),
        (["compare", "x.wav", "y.wav", "--speakers", "many"], "1 to 20"),
        (["search", "x.wav", "--fpir", "1.5"], "error rate 1.5 is out of range"),
        (["diarize", "x.wav", "--speakers", "30"], "1 to 20"),
        (["diarize", "x.wav", "-o", f"{FILE}/turns.rttm"], "there is no folder"),
        (["calibrate", "labels.csv", "-o", f"{FILE}/own.json"], "there is no folder"),
        (["ingest", "x.wav", "--speakers", "30"], "1 to 20"),
        (["enroll", "Ann", "x.wav", "--speakers", "30"], "1 to 20"),
        (["evaluate", "verification", "trials.txt", "--report", FILE], "is no folder"),
        (["evaluate", "identification", "people.csv", "--report", f"{FILE}/report"], "is no folder"),
        (["evaluate", "diarization", "turns.rttm", "--report", FILE], "is no folder"),
    ],
)
def test_it_is_refused_first(words: list[str], named: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("a file")
    done = CliRunner().invoke(app, [word.replace(FILE, str(there)) for word in words])
    assert isinstance(done.exception, InvalidRequest), (done.exception, done.output)
    assert named in str(done.exception)
    assert list(tmp_path.iterdir()) == [there]
