"""The index of voiceprints: everybody is compared, and a change is seen whole or not at all."""

import threading

import numpy as np
import pytest

from indexer.errors import Unavailable
from indexer.index.base import Hit, Ids, IdSet, SearchParameters
from indexer.types import EncoderId, SpeakerId, Vectors
from search.scoring import cosine_scores
from search.voiceprints import Voiceprint, VoiceprintIndex, VoiceprintTable
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("0123456789abcdef-spectrum")
PROBES = unit_vectors(3, seed=99)


class Watched(ReferenceIndex):
    """Remembers the sets that searches were kept to, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__(ENCODER)
        self.sets: list[IdSet | Ids | None] = []
        self.closed = False

    def search(
        self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None, parameters: SearchParameters | None = None
    ) -> list[list[Hit]]:
        self.sets.append(allowed)
        return super().search(probes, k, allowed=allowed, parameters=parameters)

    def close(self) -> None:
        self.closed = True


def table(numbers: list[int], vectors: Vectors, **labeled: list[int]) -> VoiceprintTable:
    """Speakers with their voiceprints, each of as many enrollments as the number says."""
    labels: dict[SpeakerId, tuple[str, ...]] = {}
    for label, some in labeled.items():
        for number in some:
            labels[SpeakerId(number)] = (*labels.get(SpeakerId(number), ()), label)
    ids = np.array(numbers, dtype=np.int64)
    names = {SpeakerId(n): f"speaker {n}" for n in numbers}
    return VoiceprintTable(ids, vectors, ids, ids + 0.5, np.full(len(ids), np.nan), names, labels)


def numbers_of(index: VoiceprintIndex, probe: int = 0, k: int = 100, *labels: str, without: list[int]) -> list[int]:
    found = index.nearest(PROBES[probe], k, labels=labels, without=np.array(without, dtype=np.int64))
    return [speaker.speaker_id for speaker in found]


def test_the_nearest_are_those_whose_voiceprints_score_highest_among_all_with_the_labels() -> None:
    vectors = unit_vectors(60)
    everybody = list(range(1, 61))
    index = VoiceprintIndex(
        ReferenceIndex(ENCODER), 0, table(everybody, vectors, night=everybody[::2], staff=everybody[::3])
    )
    for place, probe in enumerate(PROBES):
        scores = cosine_scores(probe, vectors)
        ranked = [int(number) + 1 for number in np.argsort(-scores)]
        found = index.nearest(probe, 7)
        assert [speaker.speaker_id for speaker in found] == ranked[:7]
        assert [speaker.score for speaker in found] == pytest.approx(sorted(scores, reverse=True)[:7], abs=1e-12)
        assert [(speaker.speaker, speaker.enrollments) for speaker in found] == [
            (f"speaker {n}", n) for n in ranked[:7]
        ]
        both = [number for number in ranked if number % 6 == 1]
        assert numbers_of(index, place, 5, "night", "staff", without=[]) == both[:5]
        assert numbers_of(index, place, 5, "night", "staff", without=both[:4]) == both[4:9]
        assert numbers_of(index, place, 5, "nobody has it", without=[]) == []


def test_equal_scores_go_to_the_older_speaker() -> None:
    index = VoiceprintIndex(ReferenceIndex(ENCODER), 0, table([3, 5, 9], np.repeat(PROBES[:1], 3, axis=0)))
    assert numbers_of(index, without=[]) == [3, 5, 9]


def test_nobody_is_nearest_where_nobody_is_enrolled() -> None:
    index = VoiceprintIndex(ReferenceIndex(ENCODER), 0, table([], unit_vectors(0)))
    assert index.nearest(PROBES[0], 5) == []
    assert index.row(SpeakerId(1)) is None


def test_the_speakers_of_a_label_are_one_set_until_somebodys_labels_change() -> None:
    # An index remembers what it made of a set, which at many speakers is the larger part of a search.
    watched = Watched()
    index = VoiceprintIndex(watched, 0, table([1, 2, 3], unit_vectors(3), night=[1, 2]))
    numbers_of(index, 0, 5, "night", without=[])
    index.change(1, np.array([1]), table([1], unit_vectors(1, seed=5), night=[1]))
    assert sorted(numbers_of(index, 0, 5, "night", without=[])) == [1, 2]
    first, second = watched.sets
    assert first is second
    index.change(2, np.array([2, 3]), table([2, 3], unit_vectors(2, seed=6), night=[3]))
    assert sorted(numbers_of(index, 0, 5, "night", without=[])) == [1, 3]


def test_a_changed_speaker_has_the_new_voiceprint_name_and_count_and_one_who_is_gone_none() -> None:
    index = VoiceprintIndex(ReferenceIndex(ENCODER), 0, table([1, 2, 3], unit_vectors(3)))
    anew = unit_vectors(2, seed=7)
    changed = VoiceprintTable(
        np.array([2, 4]),
        anew,
        np.array([8, 9]),
        np.array([80.0, 90.0]),
        np.array([12.5, np.nan]),
        {SpeakerId(2): "renamed", SpeakerId(4): "new"},
        {},
    )
    index.change(5, np.array([2, 3, 4]), changed)
    assert index.seq == 5
    assert sorted(numbers_of(index, without=[])) == [1, 2, 4]
    found = index.row(SpeakerId(2))
    assert found is not None
    assert (found.speaker, found.enrollments, found.speech_s, found.snr_db) == ("renamed", 8, 80.0, 12.5)
    np.testing.assert_array_equal(found.vector, anew[0])
    assert index.row(SpeakerId(3)) is None


def test_the_index_before_is_closed_when_everybody_is_replaced_and_a_closed_one_refuses() -> None:
    first, second = Watched(), Watched()
    index = VoiceprintIndex(first, 0, table([1, 2], unit_vectors(2)))
    index.replace(second, 3, table([2, 7], unit_vectors(2, seed=1)))
    assert (first.closed, second.closed, index.seq) == (True, False, 3)
    assert sorted(numbers_of(index, without=[])) == [2, 7]
    index.close()
    index.close()
    assert second.closed
    with pytest.raises(Unavailable, match="closed meanwhile: try again"):
        index.nearest(PROBES[0], 1)
    with pytest.raises(Unavailable, match="closed meanwhile: try again"):
        index.row(SpeakerId(2))


class Fails(Watched):
    """Has room for what it is made with and no more."""

    def add(self, ids: Ids, vectors: Vectors) -> None:
        if self.count:
            raise MemoryError("no room")
        super().add(ids, vectors)


def test_a_change_that_fails_half_way_leaves_nobody_who_is_known_and_cannot_be_found() -> None:
    inside, refused = Fails(), Fails()
    index = VoiceprintIndex(inside, 0, table([1, 2], unit_vectors(2)))
    with pytest.raises(MemoryError):
        index.change(1, np.array([1]), table([1], unit_vectors(1, seed=3)))
    assert inside.closed
    with pytest.raises(Unavailable, match="try again"):
        index.row(SpeakerId(1))
    with pytest.raises(Unavailable, match="try again"):
        index.nearest(PROBES[0], 5)
    with pytest.raises(Unavailable, match="try again"):
        index.replace(refused, 2, table([1], unit_vectors(1)))
    assert refused.closed


def test_a_speaker_whose_voiceprint_changes_is_never_missing_and_never_half_changed() -> None:
    index = VoiceprintIndex(ReferenceIndex(ENCODER), 0, table([1, 2], PROBES[:2]))
    seen: list[Voiceprint | None] = []
    missing: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            if len(index.nearest(PROBES[0], 5)) != 2:
                missing.append(1)
            seen.append(index.row(SpeakerId(1)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(1, 201):
        # Which vector it is, the count says as well.
        vector, said = PROBES[turn % 3][None, :], np.array([turn % 3])
        new = VoiceprintTable(np.array([1]), vector, said, said + 1.0, said + 1.0, {SpeakerId(1): "one"}, {})
        index.change(turn, np.array([1]), new)
    done.set()
    for thread in threads:
        thread.join()
    assert not missing
    whole = [found for found in seen[1:] if found is not None and found.speaker == "one"]
    assert len(whole) > 0
    assert all((found.vector == PROBES[found.enrollments]).all() for found in whole)


def test_speakers_who_are_named_are_scored_as_a_search_scores_them_and_others_are_left_out() -> None:
    index = VoiceprintIndex(ReferenceIndex(ENCODER), 0, table([1, 2, 3, 4], unit_vectors(4)))
    found = {speaker.speaker_id: speaker for speaker in index.nearest(PROBES[0], 4)}
    asked = [SpeakerId(4), SpeakerId(2), SpeakerId(9), SpeakerId(2)]
    scored = index.scored(PROBES[0], asked)
    assert [(one.speaker_id, one.speaker, one.enrollments, one.speech_s) for one in scored] == [
        (2, "speaker 2", 2, 2.5),
        (4, "speaker 4", 4, 4.5),
    ]
    assert [one.score for one in scored] == pytest.approx([found[one.speaker_id].score for one in scored], abs=1e-6)
    assert index.scored(PROBES[0], [SpeakerId(9)]) == []
    row = index.row(SpeakerId(3))
    assert row is not None
    assert row.scored(PROBES[0]).score == pytest.approx(found[SpeakerId(3)].score, abs=1e-6)


def test_those_who_may_be_named_are_counted_and_counted_anew_when_they_change() -> None:
    index = VoiceprintIndex(ReferenceIndex(ENCODER), 0, table([1, 2, 3], unit_vectors(3), night=[1, 3, 8]))
    assert (index.count(), index.count(("night",)), index.count(("day",))) == (3, 2, 0)
    index.change(1, np.array([3, 8]), table([8], unit_vectors(1), night=[8]))
    assert (index.count(), index.count(("night",))) == (3, 2)
    index.replace(ReferenceIndex(ENCODER), 2, table([5], unit_vectors(1)))
    assert (index.count(), index.count(("night",))) == (1, 0)
