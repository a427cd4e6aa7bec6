"""Real speech under real weights goes to another encoder and back, from the command line."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from api.cli.main import app
from indexer.errors import InvalidRequest, NotFound


def voxdex(*words: str, home: Path) -> Any:
    result = CliRunner().invoke(app, [*words, "--home", str(home), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def permuted(default_weights: Path, tmp_path: Path) -> Path:
    """The default network with its outputs in another order: the same scores, and vectors of another encoder."""
    state = torch.load(default_weights, weights_only=True, map_location="cpu")
    order = torch.randperm(192, generator=torch.Generator().manual_seed(1))
    for name in ("fc.conv.weight", "fc.conv.bias"):
        state[name] = state[name][order].clone()
    path = tmp_path / "embedding_model.ckpt"
    torch.save(state, path)
    return path


@pytest.mark.real_weights
@pytest.mark.real_speech
def test_the_same_people_are_identified_with_the_same_scores_and_old_vectors_end_when_told(
    tmp_path: Path, speech_dir: Path, permuted: Path
) -> None:
    home, spoken = tmp_path / "home", defaultdict(list)
    with (speech_dir / "manifest.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["set"] == "librispeech_multi":
                spoken[row["speaker"]].append(speech_dir / row["path"])
    people = {name: paths for name, paths in spoken.items() if len(paths) >= 2}
    chosen = sorted(people)[:2]
    manifest = tmp_path / "enroll.csv"
    manifest.write_text("path,speaker\n" + "".join(f"{people[name][0]},{name}\n" for name in chosen))
    probes = [str(people[name][1]) for name in chosen]
    voxdex("ingest", str(manifest), home=home)
    before = voxdex("identify", *probes, home=home)
    voxdex("encoder", "add", "mine", str(permuted), home=home)

    report = voxdex("reembed", "--encoder", "mine", home=home)

    assert report["switched"]
    assert report["needs_threshold"]  # one of your own has no default
    assert report["embedded"] == report["utterances"] >= 2
    assert voxdex("index", "check", home=home)["in_step"]
    after = voxdex("identify", *probes, "--threshold", "0.5", home=home)
    assert after["encoder_id"] == report["encoder_id"] != before["encoder_id"]
    assert [one["speaker"] for one in after["results"]] == [one["speaker"] for one in before["results"]] == chosen
    for old, new in zip(before["results"], after["results"], strict=True):
        scores = [[one["score"] for one in answer["candidates"]] for answer in (old, new)]
        assert scores[1] == pytest.approx(scores[0], abs=1e-5)

    back = voxdex("reembed", "--rollback", home=home)
    assert (back["encoder_id"], back["embedded"]) == (before["encoder_id"], 0)
    assert not back["needs_threshold"]
    with pytest.raises(InvalidRequest, match="pass --yes"):
        voxdex("reembed", "--drop-old", home=home)
    (dropped,) = voxdex("reembed", "--drop-old", "--yes", home=home)["dropped"]
    assert dropped == {"encoder_id": after["encoder_id"], "vectors": report["embedded"]}
    assert not list(home.glob(f"index/*/{after['encoder_id']}/snapshot*"))
    with pytest.raises(NotFound, match="no other encoder before"):
        voxdex("reembed", "--rollback", home=home)
    with pytest.raises(InvalidRequest, match="give one of"):
        voxdex("reembed", "--encoder", "mine", "--rollback", home=home)
    assert voxdex("index", "check", home=home)["in_step"]
