"""The service with the default encoder and people's voices: who was enrolled is recognized, who was not is not."""

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from api.dependencies import Services
from indexer.settings import load_settings
from indexer.types import SAMPLE_RATE_HZ, Waveform
from tests.api_kit import serving

pytestmark = [pytest.mark.real_speech, pytest.mark.real_weights]


def test_enrolled_people_are_identified_and_a_stranger_is_nobody(
    speech_dir: Path, default_weights: Path, tmp_path: Path
) -> None:
    people: dict[str, list[Path]] = defaultdict(list)
    with (speech_dir / "manifest.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["set"] == "librispeech_multi" and 5 < float(row["seconds"]) < 9:
                people[row["speaker"]].append(speech_dir / row["path"])
    ann, bo, stranger = [files for files in people.values() if len(files) >= 2][:3]
    settings = load_settings(home=tmp_path)
    with serving(settings, Services(settings)) as client:
        assert client.post("/v1/galleries", json={"name": "g"}).status_code == 201
        for name, files in (("ann", ann), ("bo", bo)):
            enrolled = client.post(
                f"/v1/galleries/g/speakers/{name}/enrollments", files={"file": (files[0].name, files[0].read_bytes())}
            )
            assert enrolled.status_code == 201
            assert -50 < enrolled.json()["quality"]["level_dbfs"] < -5
            assert enrolled.json()["warnings"] == []

        def ask(file: Path) -> tuple[str, str | None]:
            answer = client.post("/v1/galleries/g/identify", files={"file": (file.name, file.read_bytes())}).json()
            return answer["decision"], answer["speaker"]

        assert ask(ann[1]) == ("identified", "ann")
        assert ask(bo[1]) == ("identified", "bo")
        assert ask(stranger[0]) == ("unknown", None)

        again = client.post(
            "/v1/galleries/g/speakers/cat/enrollments", files={"file": (ann[1].name, ann[1].read_bytes())}
        )
        assert again.status_code == 201
        (warning,) = again.json()["warnings"]
        assert warning.startswith("the voice sounds like 'ann', who is enrolled too: cosine 0.")
        assert "times likelier if it is the same person" in warning
        assert "merge the two speakers" in warning
        merged = client.post("/v1/galleries/g/speakers/cat/merge", json={"into": "ann"})
        assert merged.status_code == 200, merged.text
        assert client.get("/v1/galleries/g/speakers/cat").status_code == 404


def test_a_few_words_of_somebody_else_are_not_enrolled_without_a_word(
    speech_dir: Path, default_weights: Path, tmp_path: Path
) -> None:
    readers: dict[str, list[Waveform]] = defaultdict(list)
    with (speech_dir / "manifest.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["set"] == "librispeech_multi":
                readers[row["speaker"]].append(soundfile.read(speech_dir / row["path"], dtype="float32")[0])
    alone = {name: np.concatenate(own)[: 20 * SAMPLE_RATE_HZ] for name, own in sorted(readers.items())[1:5]}
    settings = load_settings(home=tmp_path, speech={"detector": "silero", "speakers": "auto"})
    with serving(settings, Services(settings)) as client:
        assert client.post("/v1/galleries", json={"name": "g"}).status_code == 201

        def warned_of(name: str, speech: Waveform) -> dict[str, Any]:
            sent = {"file": (f"{name}.flac", flac_of(speech))}
            answer = client.post(f"/v1/galleries/g/speakers/{name}/enrollments", files=sent)
            assert answer.status_code == 201, answer.text
            document: dict[str, Any] = answer.json()
            return document

        for name, speech in alone.items():
            assert warned_of(name, speech)["possible_second_voice"] is None
        names = list(alone)
        possible = 0
        for name, other in zip(names, [*names[1:], names[0]], strict=True):
            words = alone[other][5 * SAMPLE_RATE_HZ : round(7.5 * SAMPLE_RATE_HZ)]
            made = warned_of(f"{name}-{other}", np.concatenate([alone[name], words]))
            said = made["possible_second_voice"]
            assert any("voices were heard" in warning for warning in made["warnings"]) or said, (name, other)
            if said is not None:
                possible += 1
                assert said["end_s"] > 20
                assert any("may hold a second voice" in warning for warning in made["warnings"])
        assert possible, "all of them were sure, so nothing was tried"


def flac_of(speech: Waveform) -> bytes:
    written = io.BytesIO()
    soundfile.write(written, speech, SAMPLE_RATE_HZ, format="FLAC")
    return written.getvalue()
