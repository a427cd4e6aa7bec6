"""Whether the recordings that a speaker is enrolled with sound like one voice."""

import numpy as np
from sqlalchemy.orm import Session

from indexer.db.embeddings import Embeddings
from indexer.embedding.aggregation import Likeness, aggregate_voices, outliers
from indexer.types import EncoderId, GalleryId, RecordingId, SpeakerId

OUTLIER_COSINE = 0.4
"""Least cosine of a recording with two or more others of its speaker.

On read and spelled English (librispeech_multi, librispeech_testother, an4), with two or three others: with the default
encoder 0 to 0.3 of 100 recordings of the speaker are below it, and 98 to 100 of 100 of somebody else; with CAM++, whose
cosines are higher, none and 92 to 100."""

PAIR_COSINE = 0.3
"""Least cosine of two recordings, where there is no third: 0 to 0.7 of 100 pairs of one speaker are below it and 94 to
99 of 100 pairs of two, with CAM++ none and 84 to 96."""

LEAST_JUDGED_S = 2.0
"""Recordings with less speech are not called strange: of single words, two of three are as unlike the others of their
own speaker."""

MOST_JUDGED = 1000
"""Recordings of one speaker beyond which none is judged: a look at a speaker should take no longer than a second."""


def enrollment_likeness(
    session: Session, gallery_id: GalleryId, encoder_id: EncoderId, speaker_id: SpeakerId
) -> dict[RecordingId, Likeness]:
    """Compare each recording that a speaker is enrolled with to the others; see `outliers`.

    A recording that has no sound vector under the encoder is not among them.
    """
    embeddings = Embeddings(session)
    enrolled = embeddings.enrolled(gallery_id, encoder_id, [speaker_id])
    ids, vectors, _damaged = embeddings.present(gallery_id, encoder_id, enrolled.embedding_ids)
    if not len(ids):
        return {}
    seconds = dict(zip(enrolled.embedding_ids.tolist(), enrolled.durations_s.tolist(), strict=True))
    stretches = embeddings.stretches(ids.tolist())
    recordings = np.array([stretches[number].recording_id for number in ids.tolist()], dtype=np.int64)
    order = np.argsort(recordings, kind="stable")
    numbers, starts, counts = np.unique(recordings[order], return_index=True, return_counts=True)
    if len(numbers) > MOST_JUDGED:
        return {}
    weights = np.array([seconds[number] for number in ids[order].tolist()])
    made, sound = aggregate_voices(vectors[order], weights, counts)
    speech_s = np.add.reduceat(weights, starts)
    judged = [
        (RecordingId(number), vector, float(length))
        for number, vector, length, is_sound in zip(numbers.tolist(), made, speech_s, sound, strict=True)
        if is_sound
    ]
    if not judged:
        return {}
    likenesses = outliers(
        np.stack([vector for _, vector, _ in judged]),
        [length for _, _, length in judged],
        threshold=OUTLIER_COSINE,
        pair_threshold=PAIR_COSINE,
        least_judged_s=LEAST_JUDGED_S,
    )
    return {number: likeness for (number, _, _), likeness in zip(judged, likenesses, strict=True)}
