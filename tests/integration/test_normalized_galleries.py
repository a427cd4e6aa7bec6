"""A gallery that normalizes scores by its own people: turned on where that can be, refused by name where it cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from api.calibration_store import CalibrationStore
from api.catalog import Catalog
from api.deciding import NOTHING, Deciding, calibration_of
from api.enrolled import EnrolledGallery
from api.speaker_ranking import SpeakerRanking
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.embedding.registry import SPEECHBRAIN_ECAPA
from indexer.errors import InvalidRequest
from indexer.media import MediaStore
from indexer.settings import Settings
from indexer.types import EMBEDDING_DIM, GalleryId
from search.calibration import Calibration
from search.calibration_fit import fit_calibration
from search.calibration_trials import LabeledVoices, all_trials, strangers
from search.identification import ProbeQuality, identify, proposals
from search.normalization import MIN_COHORT, Normalization, cohort_of
from tests.calibration_kit import ECAPA, TODAY, fitted, gaussian_trials, unit
from tests.vectors import ReferenceIndex

ENROLLED = 210


def labeled(speakers: int, seed: int) -> LabeledVoices:
    """Speakers in random directions, three recordings each."""
    rng = np.random.default_rng(seed)
    centers = np.repeat(unit(rng.standard_normal((speakers, EMBEDDING_DIM))), 3, axis=0)
    noise = unit(rng.standard_normal((3 * speakers, EMBEDDING_DIM)))
    vectors = unit(centers + noise).astype(np.float32)
    names = np.repeat([f"s{number:03}" for number in range(speakers)], 3)
    speech_s = rng.uniform(3.0, 12.0, len(names))
    return LabeledVoices(
        vectors=(vectors,),
        speakers=names,
        sessions=np.full(len(names), ""),
        sets=np.full(len(names), ""),
        net_speech_s=speech_s,
        snr_db=np.full(len(names), 20.0),
        telephone=np.zeros(len(names)),
        originals=np.arange(len(names)),
    )


@pytest.fixture(scope="module")
def normalized() -> Calibration:
    """A calibration of scores that 205 people normalize."""
    known = labeled(220, seed=11)
    cohort = cohort_of(known.vectors[0], known.speakers, known.net_speech_s, 205)
    known = replace(known, cohorts=(cohort,))
    return fit_calibration(
        all_trials(known),
        strangers=strangers(known),
        name="own",
        encoder_ids=(ECAPA,),
        description="made-up voices",
        recordings=len(known),
        today=TODAY,
        normalized=Normalization(len(cohort)),
    )[0]


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    voices = labeled(ENROLLED, seed=3)
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ECAPA, "ecapa", "speechbrain", "0" * 64, "x", EMBEDDING_DIM))
        number = GalleryId(Galleries(session).get_or_create("calls", encoder).id)
        owners = Speakers(session).get_or_create(number, voices.speakers.tolist())
        recordings = [
            NewRecording(
                f"{place:04}",
                f"/{place}.wav",
                utterances=[NewUtterance(None, 0.0, 10.0, voices.vectors[0][place], owners[voices.speakers[place]])],
            )
            for place in range(len(voices))
            if place % 3  # the first recording of everybody is a probe
        ]
        Recordings(session).add_many(number, ECAPA, recordings)
    return number


def catalog(database: Database, tmp_path: Path) -> Catalog:
    return Catalog(database, refresh_index=lambda _: None, drop_index=lambda _: None, media=MediaStore(tmp_path))


def head_of(database: Database, gallery: GalleryId) -> GalleryHead:
    with database.read_scope() as session:
        return Galleries(session).heads([gallery])[gallery]


def test_a_calibration_is_read_as_it_was_written(normalized: Calibration) -> None:
    document = normalized.to_document()
    assert document["normalized"] == {"method": "as-norm", "cohort": 205, "top_n": 100}
    assert Calibration.from_document(document).id == normalized.id
    assert "normalized" not in fitted(gaussian_trials()).to_document()


def test_it_is_turned_on_only_where_calibration_and_cohort_are_there(
    database: Database, gallery: GalleryId, normalized: Calibration, tmp_path: Path
) -> None:
    rules, store = catalog(database, tmp_path), CalibrationStore(database)
    with pytest.raises(InvalidRequest, match="needs a calibration of normalized scores, and there is none"):
        rules.change_gallery("calls", score_normalization=True)
    plain = fitted(gaussian_trials())
    store.use("calls", plain)
    with pytest.raises(InvalidRequest, match=f"{plain.id[:12]} is of plain cosines"):
        rules.change_gallery("calls", score_normalization=True)
    store.use("calls", replace(normalized, normalized=Normalization(ENROLLED + 1)))
    with pytest.raises(InvalidRequest, match=f"cohort of {ENROLLED} speakers .* fitted with {ENROLLED + 1}"):
        rules.change_gallery("calls", score_normalization=True)
    store.use("calls", normalized)
    assert rules.change_gallery("calls", score_normalization=True).score_normalization
    # Another calibration, or none any more, says nothing of scores that are normalized.
    store.use("calls", plain)
    assert not rules.gallery("calls").score_normalization
    store.use("calls", normalized)
    rules.change_gallery("calls", score_normalization=True)
    store.delete(normalized.id)
    assert (rules.gallery("calls").calibration_id, rules.gallery("calls").score_normalization) == (None, False)


def test_people_are_named_by_normalized_scores_and_strangers_are_not(
    database: Database, gallery: GalleryId, normalized: Calibration, tmp_path: Path, record_settings: Settings
) -> None:
    CalibrationStore(database).use("calls", normalized)
    catalog(database, tmp_path).change_gallery("calls", score_normalization=True)
    head = head_of(database, gallery)
    deciding = Deciding(record_settings, SPEECHBRAIN_ECAPA, (ECAPA,))
    rules, notes = deciding.identification(NOTHING, head, calibration_of(database, head))
    assert (rules.calibration, notes) == (normalized, [])
    enrolled = EnrolledGallery(database, gallery, ECAPA, ReferenceIndex(ECAPA))
    ranking = SpeakerRanking([(ECAPA, enrolled.as_of(head))], normalized.normalized)
    voices = labeled(ENROLLED, seed=3)
    quality = ProbeQuality(8.0, 20.0)

    def named(probe: np.ndarray) -> str | None:
        found = ranking.nearest({ECAPA: probe}, proposals(1))
        return identify(found, top_k=1, gallery_size=ranking.count(), quality=quality, rules=rules).speaker

    known = [(named(voices.vectors[0][place]), voices.speakers[place]) for place in range(0, 120, 3)]
    assert sum(said == who for said, who in known) >= 38
    nobody = labeled(40, seed=99).vectors[0][::3]
    assert sum(named(probe) is not None for probe in nobody) <= 2
    # One claim scores as it does among all.
    probe = voices.vectors[0][0]
    best = ranking.nearest({ECAPA: probe}, 60)[0]
    claimed = ranking.of({ECAPA: probe}, best.speaker_id)
    assert claimed is not None
    assert claimed.normalized == pytest.approx(best.normalized)
    enrolled.close()


def test_plain_scores_pass_a_normalized_calibration_over_and_say_so(
    database: Database, gallery: GalleryId, normalized: Calibration, record_settings: Settings
) -> None:
    CalibrationStore(database).use("calls", normalized)
    head = head_of(database, gallery)
    deciding = Deciding(record_settings, SPEECHBRAIN_ECAPA, (ECAPA,))
    rules, notes = deciding.verification(NOTHING, head, calibration_of(database, head))
    assert rules.calibration is None
    assert normalized.id[:12] in notes[0]
    with pytest.raises(InvalidRequest, match="needs a calibration of normalized scores"):
        deciding.identification(NOTHING, replace(head, score_normalization=True), None)
    utterances, _ = deciding.identification(NOTHING, replace(head, score_normalization=True), None, utterances=True)
    assert utterances.calibration is None


def test_a_gallery_that_shrank_below_its_cohort_is_refused_when_it_is_asked(
    database: Database, gallery: GalleryId
) -> None:
    head = head_of(database, gallery)
    enrolled = EnrolledGallery(database, gallery, ECAPA, ReferenceIndex(ECAPA))
    ranking = SpeakerRanking([(ECAPA, enrolled.as_of(head))], Normalization(ENROLLED + 5))
    with pytest.raises(InvalidRequest, match="enroll more"):
        ranking.nearest({ECAPA: labeled(1, seed=1).vectors[0][0]}, 5)
    enrolled.close()
    assert ENROLLED >= MIN_COHORT
