"""Who is enrolled with what, and who is looked up among whom."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from search.trials import LabeledRecording

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Speakers with what they are enrolled by, and the recordings that are looked up.

    Attributes
    ----------
    speakers
        Whoever can be enrolled.
    enrolled
        For each of them, the places of the recordings they are enrolled by.
    probes : (P,) int64
        Places of the recordings that are looked up.
    own : (P,) int64
        Which speaker each of them is; -1: none that can be enrolled.
    """

    speakers: tuple[str, ...]
    enrolled: tuple[tuple[int, ...], ...]
    probes: Numbers
    own: Numbers


@dataclass(frozen=True, slots=True)
class Lookups:
    """Probes and the gallery each of them is looked up in; all galleries are of one size.

    Attributes
    ----------
    mated, unknown : (m,), (u,) int64
        Places of recordings: of people who are in the gallery, and of people who are not.
    mated_own : (m,) int64
        The speaker of each mated probe.
    mated_galleries, unknown_galleries : (m, n), (u, n) int64
        Speakers that each is compared with; of one fixed gallery, every row is the same.
    """

    mated: Numbers
    mated_own: Numbers
    mated_galleries: Numbers
    unknown: Numbers
    unknown_galleries: Numbers

    @property
    def size(self) -> int:
        """n, the speakers of a gallery."""
        return int(self.mated_galleries.shape[1])

    def require_both(self) -> None:
        """Raise InvalidRequest where there is no probe of an enrolled person, or none of a stranger."""
        if not len(self.mated) or not len(self.unknown):
            raise InvalidRequest(
                f"{len(self.mated)} probes of enrolled people and {len(self.unknown)} of strangers: open-set figures "
                "need both; --gallery-sizes looks everybody up in galleries without themselves too, and recordings of "
                "people who are not enrolled are strangers in any gallery"
            )


def by_roles(recordings: Sequence[LabeledRecording]) -> Protocol:
    """Enroll what the manifest calls enroll, and look up what it calls probe.

    Raises
    ------
    InvalidRequest
        If either is missing.
    """
    protocol = _protocol(
        recordings,
        [number for number, recording in enumerate(recordings) if recording.role == "enroll"],
        [number for number, recording in enumerate(recordings) if recording.role == "probe"],
    )
    if not protocol.speakers or not len(protocol.probes):
        raise InvalidRequest(
            f"{len(protocol.speakers)} speakers to enroll and {len(protocol.probes)} probes: a column role must say "
            "enroll or probe, or give --enroll-per-speaker"
        )
    return protocol


def by_count(recordings: Sequence[LabeledRecording], sets: Collection[str] | None, per_speaker: int) -> Protocol:
    """Enroll the first so many recordings of each speaker of some sets, and look up all others.

    A speaker who has no more than that is enrolled by all of them but one, and by their only one where there is one.

    Parameters
    ----------
    sets
        None: every set.

    Raises
    ------
    InvalidRequest
        If nobody is left to enroll, or the count is not at least 1.
    """
    if per_speaker < 1:
        raise InvalidRequest(f"--enroll-per-speaker {per_speaker}: give at least 1")
    by_speaker: dict[str, list[int]] = {}
    for number, recording in enumerate(recordings):
        if recording.speaker is not None and (sets is None or recording.set in sets):
            by_speaker.setdefault(recording.speaker, []).append(number)
    enrolled = [
        number for numbers in by_speaker.values() for number in numbers[: max(1, min(per_speaker, len(numbers) - 1))]
    ]
    if not enrolled:
        raise InvalidRequest("nobody to enroll: --enroll-sets names sets of the manifest")
    taken = set(enrolled)
    return _protocol(recordings, enrolled, [number for number in range(len(recordings)) if number not in taken])


def fixed_gallery(protocol: Protocol) -> Lookups:
    """Look every probe up among all enrolled speakers."""
    known = protocol.own >= 0
    everybody = np.arange(len(protocol.speakers))
    return Lookups(
        protocol.probes[known],
        protocol.own[known],
        np.broadcast_to(everybody, (int(known.sum()), len(everybody))),
        protocol.probes[~known],
        np.broadcast_to(everybody, (int((~known).sum()), len(everybody))),
    )


def drawn_galleries(protocol: Protocol, size: int, draws: int, seed: int) -> Iterator[Lookups]:
    """Look everybody up in galleries of a size, drawn at random: once with themselves in it, once without.

    Each speaker is enrolled in one gallery, for their probes, and left out of another in which their probes and their
    enrollments are those of a stranger: every voice there is serves both questions. Each speaker has other galleries:
    in one for all, a single voice that resembles many would decide how often strangers are named.

    Raises
    ------
    InvalidRequest
        If there are not more speakers than that.
    """
    speakers = len(protocol.speakers)
    if not 1 <= size < speakers:
        raise InvalidRequest(
            f"gallery of {size}: {speakers} speakers can be enrolled, and one of them must be left out at a time"
        )
    mated = protocol.own >= 0
    strangers = np.concatenate(
        [
            protocol.probes[mated],
            np.array([number for numbers in protocol.enrolled for number in numbers], dtype=np.int64),
        ]
    )
    stranger_own = np.concatenate(
        [protocol.own[mated], np.repeat(np.arange(speakers), [len(numbers) for numbers in protocol.enrolled])]
    )
    nobody = protocol.probes[~mated]
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        # Of the other speakers, whose numbers are those below one's own and those above it less one.
        others = np.stack([rng.permutation(speakers - 1)[:size] for _ in range(speakers)])
        others += others >= np.arange(speakers)[:, None]
        everybody = rng.permutation(speakers)[:size]
        own = protocol.own[mated]
        yield Lookups(
            protocol.probes[mated],
            own,
            np.concatenate([own[:, None], others[own][:, : size - 1]], axis=1),
            np.concatenate([strangers, nobody]),
            np.concatenate([others[stranger_own], np.broadcast_to(everybody, (len(nobody), size))]),
        )


def _protocol(recordings: Sequence[LabeledRecording], enroll: Sequence[int], probes: Sequence[int]) -> Protocol:
    by_speaker: dict[str, list[int]] = {}
    for number in enroll:
        by_speaker.setdefault(recordings[number].speaker or recordings[number].path, []).append(number)
    places = {speaker: place for place, speaker in enumerate(by_speaker)}
    own = [places.get(recordings[number].speaker or recordings[number].path, -1) for number in probes]
    return Protocol(
        tuple(by_speaker),
        tuple(tuple(numbers) for numbers in by_speaker.values()),
        np.array(probes, dtype=np.int64),
        np.array(own, dtype=np.int64),
    )
