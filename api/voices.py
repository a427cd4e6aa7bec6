"""Questions about voices, answered from the record, the index and the encoder."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.orm import Session

from api.comparison import BestEnrollment, Comparison, VerifiedVoice, probe_quality
from api.deciding import NOTHING, Asked, calibration_of, of_plain_scores
from api.encoder_side import EncoderSide
from api.probe_warnings import band_warnings, quality_warnings
from api.probing import Heard
from api.speaker_ranking import SpeakerRanking
from api.voice_search import Occurrences, VoiceSearch
from indexer.db.embeddings import stretches_of
from indexer.db.filters import RowFilter
from indexer.db.galleries import Galleries, head_of
from indexer.db.rows import GalleryHead, Stretch
from indexer.db.session import Database
from indexer.db.speakers import Speakers, speaker_named
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import EncoderChanged, GalleryGone, NotFound
from indexer.listening import Listening
from indexer.probes import HeardVoice
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, SpeakerId
from search.calibration import Calibration
from search.exclusive import assign_speakers
from search.identification import (
    Identification,
    ProbeQuality,
    Rules,
    ScoredSpeaker,
    identify,
    proposals,
    speaker_llrs,
)
from search.open_set import RIVALS
from search.operating_point import OperatingPoint, identification_point, verification_point
from search.same_voice import SameVoice, same_voices
from search.verification import verify

BEST_ENROLLMENTS = 3
"""Enrollments shown of each candidate unless a request says otherwise."""

SHOWN_WITH_ENROLLMENTS = 20
"""Candidates whose best enrollments are looked up; further ones are seldom listened to."""


@dataclass(frozen=True, slots=True)
class IdentifiedVoice:
    """Who one voice of a recording is.

    Attributes
    ----------
    best_enrollments
        Of the candidates, by speaker; empty where they were not asked for.
    warnings
        What makes the answer less sure than it looks, in plain words.
    """

    heard: HeardVoice
    answer: Identification
    best_enrollments: dict[SpeakerId, list[BestEnrollment]]
    warnings: tuple[str, ...]


class Voices(Comparison):
    """What a gallery can answer about a voice; for any number of threads, as long as the process lives.

    Each question reads the gallery's head from the record first, so that an answer is as fresh as the record: its
    thresholds, who is enrolled, and that the gallery is still there.

    Parameters
    ----------
    sides : sequence of EncoderSide
        The gallery under each of its encoders, its own first; whoever made them keeps them in step.
    gallery : str
        Its name, for messages.

    Raises
    ------
    EncoderChanged
        If the gallery is not of these encoders any more; every question raises it once the gallery has gone.
    """

    def __init__(
        self,
        sides: Sequence[EncoderSide],
        settings: Settings,
        *,
        listening: Callable[[], Listening],
        database: Database,
        gallery: str,
        gallery_id: GalleryId,
    ) -> None:
        encoders = EncoderSet(sides[0].encoder, sides[1].encoder if len(sides) > 1 else None)
        super().__init__(encoders, sides[0].spec, settings, listening)
        self._search = VoiceSearch(sides[0], database, utterance_s=settings.audio.utterance_s)
        for side in sides:
            if side.index.encoder_id != side.encoder.id:
                raise _encoder_changed(gallery, (side.index.encoder_id,), (side.encoder.id,))
        self._sides = sides
        self._database = database
        self._gallery = gallery
        self._gallery_id = gallery_id

    @property
    def gallery_id(self) -> GalleryId:
        """The gallery that is asked."""
        return self._gallery_id

    def identification_rules(self) -> Rules:
        """Return how it is decided now who somebody is, where a request asks for nothing else."""
        head = self._head()
        rules, _ = self._deciding.identification(NOTHING, head, calibration_of(self._database, head))
        return rules

    def verification_point(self, asked: Asked = NOTHING) -> OperatingPoint:
        """Operating point of a claim in this gallery."""
        head = self._head()
        rules, _ = self._deciding.verification(asked, head, calibration_of(self._database, head))
        return verification_point(rules.calibration, rules.layers, encoder=rules.encoder)

    def identification_point(self, asked: Asked = NOTHING, labels: Sequence[str] | None = None) -> OperatingPoint:
        """Operating point of the best speaker of this gallery, as far as it is known without a probe."""
        head = self._head()
        rules, _ = self._deciding.identification(asked, head, calibration_of(self._database, head))
        size = self._ranking(head, labels).count()
        return identification_point(
            rules.calibration, rules.layers, gallery_size=size, rivals=[], encoder=rules.encoder
        )

    def identify(
        self,
        heard: Sequence[HeardVoice],
        *,
        top_k: int,
        asked: Asked = NOTHING,
        labels: Sequence[str] | None = None,
        exclusive: bool = False,
        best_enrollments: int = BEST_ENROLLMENTS,
    ) -> list[IdentifiedVoice]:
        """Tell for each voice of a recording who it is among the enrolled, or that it is nobody of them.

        Parameters
        ----------
        labels
            Only speakers with every one of these labels are considered; None or none: all of them.
        exclusive
            Whether no two voices may be the same person: each speaker is then given to one voice at most, so that
            together they are likeliest.
        best_enrollments
            Most enrollments that are shown of a candidate; 0: none are looked up.

        Raises
        ------
        NotFound
            If the gallery is gone.
        InvalidRequest
            If `top_k`, a threshold or a rate is out of range, or cannot be had.
        """
        head = self._head()
        rules, notes = self._deciding.identification(asked, head, calibration_of(self._database, head))
        ranking = self._ranking(head, labels, rules)
        size = ranking.count()
        looked_at = proposals(top_k)
        found = [ranking.nearest(voice.vectors, looked_at) for voice in heard]

        def answer(voice: HeardVoice, speakers: Sequence[ScoredSpeaker]) -> Identification:
            return identify(speakers, top_k=top_k, gallery_size=size, quality=probe_quality(voice), rules=rules)

        answers = [answer(voice, speakers) for voice, speakers in zip(heard, found, strict=True)]
        if exclusive and len(heard) > 1:
            left = _exclusive(found, answers, heard, rules)
            answers = [answer(voice, speakers) for voice, speakers in zip(heard, left, strict=True)]
        named = []
        for voice, decided in zip(heard, answers, strict=True):
            shown = [candidate.speaker_id for candidate in decided.candidates[:SHOWN_WITH_ENROLLMENTS]]
            stretches = self._best_enrollments(voice, shown, best_enrollments)
            best = stretches.get(shown[0], []) if shown and decided.outcome != "unknown" else []
            bands = band_warnings(voice.quality, [stretch.quality for stretch, _ in best])
            warned = (*notes, *quality_warnings(voice.quality), *bands)
            named.append(IdentifiedVoice(voice, decided, _shown(stretches), warned))
        return named

    def identify_each(
        self,
        heard: Heard,
        *,
        top_k: int,
        asked: Asked = NOTHING,
        labels: Sequence[str] | None = None,
        exclusive: bool = False,
        best_enrollments: int = BEST_ENROLLMENTS,
    ) -> list[IdentifiedVoice | None]:
        """Identify the voices of a recording that were heard well enough, None for each other; see `identify`."""
        enough = [voice for voice, refused in zip(heard.voices, heard.refused, strict=True) if refused is None]
        answers = iter(
            self.identify(
                enough,
                top_k=top_k,
                asked=asked,
                labels=labels,
                exclusive=exclusive,
                best_enrollments=best_enrollments,
            )
        )
        return [next(answers) if refused is None else None for refused in heard.refused]

    def verify(
        self,
        heard: HeardVoice,
        speaker: str,
        *,
        asked: Asked = NOTHING,
        best_enrollments: int = BEST_ENROLLMENTS,
    ) -> VerifiedVoice:
        """Tell whether this is the enrolled speaker of that name.

        Raises
        ------
        NotFound
            If the gallery has no such speaker, or the speaker has no enrollment.
        """
        number = speaker_named(self._database, self._gallery_id, speaker)
        head = self._head()  # After the name: who is gone by then has no voiceprint in what follows.
        if number is None:
            raise NotFound(
                f"no speaker {speaker!r} in gallery {self._gallery}; "
                f"`voxdex speakers list --gallery {self._gallery}` shows who is enrolled"
            )
        rules, notes = self._deciding.verification(asked, head, calibration_of(self._database, head))
        claimed = self._ranking(head, rules=rules).of(heard.vectors, number)
        if claimed is None:
            raise NotFound(f"speaker {speaker!r} has no enrollment; add one: `voxdex enroll {speaker!r} FILE`")
        answer = verify(claimed, quality=probe_quality(heard), rules=rules)
        stretches = self._best_enrollments(heard, [number], max(1, best_enrollments)).get(number, [])
        bands = band_warnings(heard.quality, [stretch.quality for stretch, _ in stretches])
        warned = (*notes, *quality_warnings(heard.quality), *bands)
        return VerifiedVoice(answer, _shown({number: stretches[:best_enrollments]}).get(number, []), warned)

    def search(
        self,
        heard: HeardVoice,
        *,
        asked: Asked = NOTHING,
        filter: RowFilter | None = None,
        top_k: int | None = None,
    ) -> Occurrences:
        """Find the recordings in which the voice occurs, best first.

        Parameters
        ----------
        filter
            What an utterance must be to be found. It acts inside the scan: what it leaves out takes no place.
        top_k
            Look at the best so many utterances, 1 to 1000, whatever they score, unless a threshold is given too; so
            many are found whenever the filter leaves so many. None: look at every one that reaches the threshold.

        Raises
        ------
        NotFound
            If the gallery is gone, or the filter names a speaker whom it does not know.
        InvalidRequest
            If `top_k` or the threshold is out of range, or the index's engine cannot apply the filter.
        """
        head = self._head()
        rules, notes = self._deciding.identification(asked, head, self._single(head), utterances=True)
        found = self._search.search(
            heard.vectors[self.encoder.id],
            probe_quality(heard),
            rules=rules,
            head=head,
            filter=filter,
            top_k=top_k,
            above=asked.wanted.decides,
        )
        return replace(found, warnings=(*notes, *quality_warnings(heard.quality)))

    def search_point(self, asked: Asked, filter: RowFilter | None) -> tuple[OperatingPoint, int | None]:
        """Return the operating point of a search without a probe, and how many utterances a filter leaves."""
        head = self._head()
        rules, _ = self._deciding.identification(asked, head, self._single(head), utterances=True)
        count = self._search.count(filter, head)
        return self._search.operating_point(rules, count), count if filter else None

    def same_voices(self, speaker: str) -> list[SameVoice]:
        """Return the other speakers who sound like one, likeliest first; none where the speaker has no voiceprint.

        Cosines are those of voiceprints. Where the gallery normalizes its scores, plain ones are judged: the cohort
        that they are normalized by may hold both.

        Raises
        ------
        NotFound
            If the gallery is gone, or has no such speaker.
        InvalidRequest
            If nobody gives a threshold that can be had.
        """
        with self._database.read_scope() as session:
            head = self._head_in(session)
            number = SpeakerId(Speakers(session).by_name(self._gallery_id, speaker).id)
        own = calibration_of(self._database, head)
        claim, _ = of_plain_scores(self._deciding.verification(NOTHING, head, own)[0])
        naming, _ = of_plain_scores(self._deciding.identification(NOTHING, head, own)[0])
        prints = [(side.encoder.id, side.enrolled.as_of(head).voiceprint(number)) for side in self._sides]
        vectors = {encoder_id: one.vector for encoder_id, one in prints if one is not None}
        first = prints[0][1]
        if first is None or len(vectors) < len(prints):
            return []
        ranking = self._ranking(head)
        looked_at = RIVALS + 1 + SHOWN_WITH_ENROLLMENTS  # Itself, those of the same voice, and strangers.
        found = [one for one in ranking.nearest(vectors, looked_at) if one.speaker_id != number]
        return same_voices(
            found,
            gallery_size=ranking.count() - 1,
            quality=ProbeQuality(first.speech_s, first.snr_db, first.telephone),
            claim=claim,
            naming=naming,
        )

    def close(self) -> None:
        """Close the indexes and who is enrolled, where nobody else uses them."""
        for side in self._sides:
            side.close()

    def _single(self, head: GalleryHead) -> Calibration | None:
        """Return the gallery's calibration, where it is of its first encoder alone."""
        own = calibration_of(self._database, head)
        return own if own is not None and len(own.encoder_ids) == 1 else None

    def _ranking(
        self, head: GalleryHead, labels: Sequence[str] | None = None, rules: Rules | None = None
    ) -> SpeakerRanking:
        views = [(side.encoder.id, side.enrolled.as_of(head, labels)) for side in self._sides]
        calibration = rules.calibration if rules is not None else None
        return SpeakerRanking(views, calibration.normalized if calibration is not None else None)

    def _best_enrollments(
        self, heard: HeardVoice, speaker_ids: Collection[SpeakerId], most: int
    ) -> dict[SpeakerId, list[tuple[Stretch, float]]]:
        """Return which enrolled stretches of these speakers a voice resembles most, best first."""
        if not speaker_ids or not most:
            return {}
        side = self._sides[0]
        best = side.enrolled.best_enrollments(heard.vectors[side.encoder.id], speaker_ids, most)
        stretches = stretches_of(self._database, [number for own in best.values() for number, _ in own])
        return {
            speaker_id: [(stretches[number], score) for number, score in own if number in stretches]
            for speaker_id, own in best.items()
        }

    def _head(self) -> GalleryHead:
        return self._checked(head_of(self._database, self._gallery_id))

    def _head_in(self, session: Session) -> GalleryHead:
        return self._checked(Galleries(session).heads([self._gallery_id]).get(self._gallery_id))

    def _checked(self, head: GalleryHead | None) -> GalleryHead:
        if head is None or head.name != self._gallery:
            raise GalleryGone(f"gallery {self._gallery!r} was deleted: see `voxdex galleries list`")
        if head.encoder_ids != self.encoders.ids:
            raise _encoder_changed(head.name, head.encoder_ids, self.encoders.ids)
        return head


def _encoder_changed(gallery: str, now: Sequence[EncoderId], asked: Sequence[EncoderId]) -> EncoderChanged:
    """Never compare a probe with vectors, or with thresholds, of another encoder."""
    return EncoderChanged(
        f"gallery {gallery} went to encoder {' and '.join(now)} while it was asked under {' and '.join(asked)}: ask "
        "again"
    )


def _exclusive(
    found: Sequence[Sequence[ScoredSpeaker]],
    answers: Sequence[Identification],
    heard: Sequence[HeardVoice],
    rules: Rules,
) -> list[list[ScoredSpeaker]]:
    """Leave each voice the speakers whom no other voice was given."""
    worth = []
    for speakers, answer, voice in zip(found, answers, heard, strict=True):
        edge = answer.operating_point.lowest_edge
        decides = speaker_llrs(speakers, probe_quality(voice), rules.calibration)
        if decides is None or answer.operating_point.llr_threshold is None:
            decides = np.array([speaker.score for speaker in speakers])
        worth.append({one.speaker_id: value - edge for one, value in zip(speakers, decides.tolist(), strict=True)})
    given = assign_speakers(worth)
    return [
        [one for one in speakers if one.speaker_id == own or one.speaker_id not in given]
        for speakers, own in zip(found, given, strict=True)
    ]


def _shown(
    stretches: Mapping[SpeakerId, Sequence[tuple[Stretch, float]]],
) -> dict[SpeakerId, list[BestEnrollment]]:
    return {
        speaker_id: [
            BestEnrollment(
                utterance_id=stretch.utterance_id,
                recording_id=stretch.recording_id,
                uri=stretch.uri,
                channel=stretch.channel,
                start_s=stretch.start_s,
                end_s=stretch.end_s,
                score=score,
            )
            for stretch, score in own
        ]
        for speaker_id, own in stretches.items()
    }
