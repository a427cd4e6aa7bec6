"""The service with the default encoder and people's voices: who was enrolled is recognized, who was not is not."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from api.dependencies import Services
from indexer.settings import load_settings
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
