"""Recordings on disk to a calibration in the record, and the galleries that use it."""

import csv
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sqlalchemy import update

from api.calibrating import Calibrated, CalibrationWanted, calibrate
from api.calibration_store import CalibrationStore
from api.evaluation.cache import HeardCache
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import Calibration as CalibrationRow
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.errors import CorruptArtifact, EncoderMismatch, InvalidRequest, NotFound
from indexer.settings import Settings, load_settings
from indexer.types import SAMPLE_RATE_HZ, GalleryId
from search.calibration import Calibration
from search.trials import read_manifest, read_trials
from tests.calibration_kit import CAMPLUS, ECAPA, fitted, gaussian_trials
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder

SPEAKERS = 24
WANTED = CalibrationWanted("default", "made-up speech", "2026-01-31")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise through a filter of each speaker's own, three times each, of other lengths, and a manifest."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(5)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "session", "original"])
        for speaker in range(SPEAKERS):
            shape = np.convolve(rng.standard_normal(16), np.ones(2) / 2)
            for take in range(3):
                noise = rng.standard_normal(int(SAMPLE_RATE_HZ * rng.uniform(0.5, 1.5)))
                shaped = np.convolve(noise, shape + 0.35 * rng.standard_normal(len(shape)), mode="same")
                name = f"s{speaker:02}-{take}.wav"
                soundfile.write(folder / name, 0.1 * shaped / np.abs(shaped).max(), SAMPLE_RATE_HZ)
                writer.writerow([name, f"s{speaker:02}", "", ""])
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", cache=tmp_path / "cache", speech={"detector": "off"})


def _calibrate(folder: Path, settings: Settings, *encoders: SpectrumEncoder, **given: object) -> Calibrated:
    labeled = given.get("labeled") or read_manifest(folder / "manifest.csv")
    with closing(HeardCache(settings.cache)) as cache:
        return calibrate(
            labeled,  # type: ignore[arg-type]
            folder,
            encoders,
            settings,
            WANTED,
            cache=cache,
            progress=lambda label, total: nullcontext(lambda: None),
        )


def test_labeled_recordings_become_a_calibration(folder: Path, settings: Settings) -> None:
    encoder = SpectrumEncoder()
    made = _calibrate(folder, settings, encoder)
    calibration = made.calibration
    assert calibration.encoder_ids == (encoder.id,)
    assert made.recordings == calibration.data.recordings == 3 * SPEAKERS
    assert calibration.data.speakers == SPEAKERS
    assert calibration.data.target_trials == (3 + 1) * SPEAKERS  # each pair, and two together with the third
    assert calibration.data.description == "made-up speech"
    assert calibration.cllr_after < calibration.cllr_before
    assert made.refused == {}


def test_what_was_heard_before_is_not_heard_again(folder: Path, settings: Settings) -> None:
    first = _calibrate(folder, settings, SpectrumEncoder())
    again = SpectrumEncoder()
    assert _calibrate(folder, settings, again).calibration == first.calibration
    assert again.embedded == 0


def test_two_encoders_are_fused(folder: Path, settings: Settings) -> None:
    both = SpectrumEncoder(), ReversedSpectrumEncoder()
    calibration = _calibrate(folder, settings, *both).calibration
    assert calibration.encoder_ids == (both[0].id, both[1].id)
    assert {"score_1", "score_2"} <= set(calibration.weights)


def test_an_encoder_is_not_fused_with_itself(folder: Path, settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match="two different ones"):
        _calibrate(folder, settings, SpectrumEncoder(), SpectrumEncoder())


def test_a_recording_that_cannot_be_used_is_counted_and_left_out(folder: Path, settings: Settings) -> None:
    silent = folder / "silent.wav"
    soundfile.write(silent, np.zeros(SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    (folder / "more.csv").write_text((folder / "manifest.csv").read_text() + "silent.wav,s00,,\n")
    made = _calibrate(folder, settings, SpectrumEncoder(), labeled=read_manifest(folder / "more.csv"))
    assert made.recordings == 3 * SPEAKERS
    assert sum(made.refused.values()) == 1


def test_copies_of_one_recording_are_no_trial(folder: Path, settings: Settings) -> None:
    lines = (folder / "manifest.csv").read_text().splitlines()
    marked = [lines[0]] + [line.rsplit(",", 1)[0] + f",{line[:3]}" for line in lines[1:]]
    (folder / "copies.csv").write_text("\n".join(marked) + "\n")
    with pytest.raises(InvalidRequest, match="0 target trials"):
        _calibrate(folder, settings, SpectrumEncoder(), labeled=read_manifest(folder / "copies.csv"))


def test_a_trial_list_is_fitted_to_as_it_is(folder: Path, settings: Settings) -> None:
    lines = []
    for speaker in range(SPEAKERS):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            lines.append(f"1 s{speaker:02}-{first}.wav s{speaker:02}-{second}.wav")
            lines.append(f"0 s{speaker:02}-{first}.wav s{(speaker + 5) % SPEAKERS:02}-{second}.wav")
    (folder / "trials.txt").write_text("\n".join(lines))
    made = _calibrate(folder, settings, SpectrumEncoder(), labeled=read_trials(folder / "trials.txt"))
    data = made.calibration.data
    assert (data.target_trials, data.nontarget_trials) == (3 * SPEAKERS, 3 * SPEAKERS)


def test_a_missing_recording_is_named(folder: Path, settings: Settings) -> None:
    (folder / "gone.csv").write_text("path,speaker\ngone.wav,s00\n")
    with pytest.raises(NotFound, match=r"gone\.wav"):
        _calibrate(folder, settings, SpectrumEncoder(), labeled=read_manifest(folder / "gone.csv"))


@pytest.fixture(scope="module")
def single() -> Calibration:
    return fitted(gaussian_trials(), name="telephone")


@pytest.fixture(scope="module")
def fused() -> Calibration:
    return fitted(gaussian_trials(columns=2), encoders=(CAMPLUS, ECAPA))


def _gallery(database: Database, *, second: bool = False) -> None:
    with database.session_scope() as session:
        for encoder_id in (ECAPA, CAMPLUS):
            Encoders(session).register(NewEncoder(encoder_id, encoder_id, "speechbrain", "0" * 64, "x", 192))
        galleries = Galleries(session)
        row = galleries.create("people", Encoders(session).get(ECAPA))
        if second:
            galleries.change(GalleryId(row.id), second_encoder_id=CAMPLUS)


def _used(database: Database) -> str | None:
    with database.read_scope() as session:
        return Galleries(session).by_name("people").calibration_id


def test_a_gallery_uses_a_calibration_and_goes_back(database: Database, single: Calibration) -> None:
    _gallery(database)
    store = CalibrationStore(database)
    store.use("people", single)
    assert _used(database) == single.id
    assert store.find(single.id[:12]) == store.find(single.name) == single
    store.use("people", None)
    assert _used(database) is None
    store.use("people", single)
    store.delete(single.id)
    assert _used(database) is None
    with pytest.raises(NotFound):
        store.find(single.id)


def test_a_calibration_of_another_encoder_is_refused_by_name(database: Database, single: Calibration) -> None:
    _gallery(database)
    other = fitted(gaussian_trials(), encoders=(CAMPLUS,))
    with pytest.raises(EncoderMismatch, match=rf"{CAMPLUS}.*gallery people of {ECAPA}"):
        CalibrationStore(database).use("people", other)
    assert _used(database) is None


def test_a_fusion_is_used_in_the_order_of_the_gallerys_encoders(database: Database, fused: Calibration) -> None:
    _gallery(database, second=True)
    store = CalibrationStore(database)
    store.use("people", fused)
    used = store.find(_used(database) or "")
    assert used.encoder_ids == (ECAPA, CAMPLUS)
    assert used == fused.swapped()


def test_a_calibration_that_was_changed_in_the_record_is_never_used(database: Database, single: Calibration) -> None:
    store = CalibrationStore(database)
    store.keep(single)
    document = single.to_document()
    document["weights"]["intercept"] += 5.0
    with database.session_scope() as session:
        session.execute(update(CalibrationRow).values(document=document))
    with pytest.raises(CorruptArtifact, match=f"calibration {single.id[:12]} of the record was changed"):
        store.find(single.id)
    store.delete(store.find_id(single.id[:12]))  # As the message says.
    assert [origin for _, origin in store.list() if origin == "record"] == []


def test_a_name_that_several_calibrations_have_is_refused_with_their_ids() -> None:
    shipped = [found for found, _ in CalibrationStore(None).list() if found.name == "default"]
    with pytest.raises(InvalidRequest, match=rf"3 calibrations are named 'default'.*{shipped[0].id[:12]} of "):
        CalibrationStore(None).find("default")


def test_without_a_record_only_what_is_shipped_is_known(single: Calibration) -> None:
    store = CalibrationStore(None)
    assert all(origin == "voxdex" for _, origin in store.list())
    with pytest.raises(NotFound, match="nothing is stored yet"):
        store.keep(single)
