"""The vocabulary that every package shares: ids, array types and the constants of the vector space."""

from typing import Literal, NewType

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
"""Rate of every waveform inside voxdex; what the supported encoders were trained on."""

EMBEDDING_DIM = 192
"""D, the dimension of every vector that a gallery keeps."""

GalleryId = NewType("GalleryId", int)
SpeakerId = NewType("SpeakerId", int)
RecordingId = NewType("RecordingId", int)
UtteranceId = NewType("UtteranceId", int)
EmbeddingId = NewType("EmbeddingId", int)
JobId = NewType("JobId", int)
ShardId = NewType("ShardId", int)
UnknownVoiceId = NewType("UnknownVoiceId", int)
EncoderId = NewType("EncoderId", str)
"""Weights hash and front end, and "-fast" behind them where the vectors are: only equal ones are comparable."""

Precision = Literal["exact", "fast"]
"""What vectors keep to: a cosine to those of float32 of 0.99999 or more, or of 0.999 or more."""

_FAST = "-fast"

Waveform = NDArray[np.float32]
"""(N,) mono samples in [-1, 1] at `SAMPLE_RATE_HZ`."""

Span = tuple[int, int]
"""First sample of a stretch of a waveform, and the first one after it."""

Vectors = NDArray[np.float32]
"""(B, D) rows; of unit L2 norm unless a docstring says raw."""


def with_precision(encoder_id: EncoderId, precision: Precision) -> EncoderId:
    """Return the id of an encoder's weights and front end in a precision."""
    return EncoderId(without_precision(encoder_id) + (_FAST if precision == "fast" else ""))


def without_precision(encoder_id: EncoderId) -> EncoderId:
    """Return an encoder's weights and front end, which is what calibrations are of: their scores differ by less."""
    return EncoderId(encoder_id.removesuffix(_FAST))


def precision_of(encoder_id: EncoderId) -> Precision:
    """Return the precision that an encoder's vectors keep to."""
    return "fast" if encoder_id.endswith(_FAST) else "exact"
