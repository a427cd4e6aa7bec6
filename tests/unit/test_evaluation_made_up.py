"""Made-up voices fill galleries: as many as asked, alike under every encoder, and never one that is looked up."""

import numpy as np
import pytest

from api.evaluation.hearing import HeardRecording
from api.evaluation.identification import Gallery, evaluate_identification
from api.evaluation.made_up import MIN_BASES, SPREAD, MadeUp, set_aside
from api.evaluation.protocols import by_count, drawn_galleries
from api.evaluation.systems import System
from indexer.errors import InvalidRequest
from search.bootstrap import Resampling
from search.open_set import RIVALS
from search.trials import LabeledRecording
from tests.calibration_kit import CAMPLUS, ECAPA

RECORDINGS = [LabeledRecording(f"{speaker}-{take}", f"s{speaker:02}") for speaker in range(12) for take in range(3)]
RECORDINGS += [LabeledRecording(f"alone-{number}", f"x{number:02}") for number in range(60)]


def _system() -> System:
    rng = np.random.default_rng(3)
    heard = []
    centers: dict[tuple[str | None, str], np.ndarray] = {}
    for recording in RECORDINGS:
        vectors = {}
        for encoder in (ECAPA, CAMPLUS):
            center = centers.setdefault((recording.speaker, encoder), rng.normal(size=192))
            vector = center / np.linalg.norm(center) + 0.03 * rng.normal(size=192)
            vectors[encoder] = (vector / np.linalg.norm(vector)).astype(np.float32)
        heard.append(HeardRecording(vectors, 6.0, 5.0, 20.0))
    return System("system", heard, (ECAPA, CAMPLUS))


def test_speakers_with_one_recording_are_set_aside_to_make_voices_of() -> None:
    protocol, crowd = set_aside(by_count(RECORDINGS, None, 2), 500, seed=1)
    assert protocol.speakers == tuple(f"s{speaker:02}" for speaker in range(12))
    assert protocol.own.tolist() == list(range(12))
    assert crowd.bases.tolist() == list(range(36, 96))


def test_galleries_are_as_large_as_asked_and_their_best_are_those_of_all() -> None:
    system = _system()
    protocol, crowd = set_aside(by_count(RECORDINGS, None, 2), 5_000, seed=1)
    gallery = Gallery(system, protocol, crowd)
    probes = protocol.probes[:3]
    best = gallery.best_made_up(probes)
    prints = [voiceprints[12:] for voiceprints in gallery.voiceprints]
    assert [len(one) for one in prints] == [5_000, 5_000]
    every = np.mean([system.vectors(e)[probes] @ one.T for e, one in zip(system.encoder_ids, prints, strict=True)], 0)
    np.testing.assert_allclose(best, -np.sort(-every, axis=1)[:, : RIVALS + 1], atol=1e-6)
    labels = [recording.speaker or "" for recording in RECORDINGS]
    drawn = list(drawn_galleries(protocol, 10, 1, seed=1))
    figures = evaluate_identification(system, protocol, drawn, labels, Resampling(draws=0), 0.0, made_up=crowd)
    assert (figures.gallery_size, figures.mated) == (5_010, 12)
    assert figures.figures["top_1"].value == 1.0


def test_a_made_up_voice_is_as_near_to_what_it_is_made_of_under_every_encoder() -> None:
    system = _system()
    crowd = MadeUp(np.arange(36, 96), 600, seed=1)
    originals = crowd.originals(system.answers)
    for encoder in system.encoder_ids:
        vectors = system.vectors(encoder)
        made = crowd.voiceprints(vectors, originals)
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-5)
        near = np.einsum("nd,nd->n", made, vectors[originals])
        assert near.mean() == pytest.approx(1 / np.sqrt(1 + SPREAD**2), abs=0.03)
    again = crowd.voiceprints(vectors, originals)
    np.testing.assert_array_equal(made, again)


def test_too_few_voices_to_make_others_of_are_refused_with_their_number() -> None:
    with pytest.raises(InvalidRequest, match=f"5 speakers with a single recording.*{MIN_BASES} or more"):
        MadeUp(np.arange(36, 41), 10, seed=1).originals(_system().answers)
