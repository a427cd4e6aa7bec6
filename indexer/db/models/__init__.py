"""Tables of the record. Every embedding, vector included, is here; any index is a projection of it.

Whoever imports one table has loaded all of them: what is made, compared or migrated by the metadata is always whole.
"""

from indexer.db.models.access import ApiKey, IdempotentRequest, PageSession
from indexer.db.models.base import NAMING_CONVENTION, SCHEMA_REVISION, Base, UnitVector, UtcDateTime, utc_now
from indexer.db.models.changes import GalleryFeed, IndexChange, SpeakerChange
from indexer.db.models.galleries import Calibration, Encoder, Gallery, GalleryEncoder
from indexer.db.models.jobs import (
    ErasedFile,
    Job,
    JobItem,
    JobItemState,
    JobShard,
    JobState,
    OnDuplicate,
    ShardState,
    WebhookDelivery,
)
from indexer.db.models.recordings import Embedding, Recording, RecordingState, Reembedding, Utterance
from indexer.db.models.speakers import Enrollment, Speaker, SpeakerLabel
from indexer.db.models.unknown_voices import Clustering, UnknownVoice, UnknownVoiceApart, UnknownVoiceMember

__all__ = [
    "NAMING_CONVENTION",
    "SCHEMA_REVISION",
    "ApiKey",
    "Base",
    "Calibration",
    "Clustering",
    "Embedding",
    "Encoder",
    "Enrollment",
    "ErasedFile",
    "Gallery",
    "GalleryEncoder",
    "GalleryFeed",
    "IdempotentRequest",
    "IndexChange",
    "Job",
    "JobItem",
    "JobItemState",
    "JobShard",
    "JobState",
    "OnDuplicate",
    "PageSession",
    "Recording",
    "RecordingState",
    "Reembedding",
    "ShardState",
    "Speaker",
    "SpeakerChange",
    "SpeakerLabel",
    "UnitVector",
    "UnknownVoice",
    "UnknownVoiceApart",
    "UnknownVoiceMember",
    "UtcDateTime",
    "Utterance",
    "WebhookDelivery",
    "utc_now",
]
