"""What the service says of itself."""

from typing import Literal

from pydantic import ConfigDict, Field

from api.schemas.common import View
from indexer.db.models import JobState


class Alive(View):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str = "ok"


class Check(View):
    """Whether a part works; `problem` is a stable code where it does not."""

    ok: bool
    problem: str | None = Field(
        default=None, description="A code, as errors have; `loading`, `behind` and `timeout` besides."
    )


class EncoderCheck(Check):
    """Whether the default encoder is loaded."""

    encoder_id: str | None = None


class GalleryLag(View):
    """How far one open index is behind the record."""

    gallery_id: int
    vectors: int
    changes_behind: int = Field(description="Transactions that are not yet in the index.")
    lag_s: float = Field(description="Age of the oldest of them; 0 where there is none.")


class IndexCheck(Check):
    """Whether every open index is in step with the record."""

    lag_s: float = Field(default=0.0, description="The longest lag of any open index.")
    galleries: list[GalleryLag] = Field(default=[])


class Readiness(View):
    """Whether requests should be sent here, and if not, which part is at fault."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ready": True,
                    "database": {"ok": True, "problem": None},
                    "broker": {"ok": True, "problem": None},
                    "encoder": {"ok": True, "problem": None, "encoder_id": "0575cb64845e6b9a-speechbrain"},
                    "index": {
                        "ok": True,
                        "problem": None,
                        "lag_s": 0.0,
                        "galleries": [{"gallery_id": 1, "vectors": 51200, "changes_behind": 0, "lag_s": 0.0}],
                    },
                }
            ]
        }
    )

    ready: bool
    database: Check
    broker: Check | None = Field(description="Null where jobs run in this process.")
    encoder: EncoderCheck
    index: IndexCheck


class Encoder(View):
    """A network that makes vectors, as the registry knows it."""

    name: str
    family: str
    description: str
    license: str
    published_eer: str
    identification_threshold: float | None
    verification_threshold: float | None
    measured_eer: dict[str, float] = Field(description="Equal error rate in percent, by kind of speech.")
    times_real_time: float | None = Field(description="Seconds of audio that one CPU core embeds in a second.")
    default: bool = Field(description="Whether new galleries get it.")
    here: bool = Field(description="Whether its weights are on this machine.")


class Encoders(View):
    """The encoders that galleries can be made with."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "name": "speechbrain-ecapa-voxceleb",
                            "family": "speechbrain",
                            "description": "ECAPA-TDNN trained on VoxCeleb1 and VoxCeleb2.",
                            "license": "Apache-2.0",
                            "published_eer": "0.90 % (VoxCeleb1-O)",
                            "identification_threshold": 0.5,
                            "verification_threshold": 0.4,
                            "measured_eer": {"spelled words": 1.67, "one-second words": 17.33},
                            "times_real_time": 13.0,
                            "default": True,
                            "here": True,
                        }
                    ]
                }
            ]
        }
    )

    items: list[Encoder]


class IndexView(View):
    """One index of an open gallery in this process."""

    gallery: str
    encoder_id: str
    kind: str = Field(description="What searches: `faiss-flat`, `faiss-codes`, `milvus`...")
    vectors: int
    memory_bytes: int = Field(description="Resident, without vectors that are mapped from files.")
    mapped_bytes: int
    changes_behind: int = Field(description="Transactions that are not yet in it.")
    lag_s: float
    details: dict[str, str | int | float] = Field(description="Of the engine: measured recall, generation, address.")


class EncoderInUse(View):
    """An encoder, and the galleries that are searched under it."""

    encoder_id: str
    name: str
    galleries: list[str]


class WorkUnderWay(View):
    """A shard of a job that somebody works on."""

    name: str = Field(description="Whoever it is; the beginning of a random word.")
    state: str = Field(description="On what.")


class System(View):
    """What this process is made of and how it is; of galleries that the key opens."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": "0.1.0",
                    "database": "sqlite",
                    "jobs_run": "here",
                    "workers": [{"name": "4f1d0c9b", "state": "job 42: 250 files"}],
                    "queues": {"local": 0, "probes": 0},
                    "device": "cpu",
                    "encoders": [
                        {"encoder_id": "0575cb64845e6b9a-speechbrain", "name": "ecapa", "galleries": ["calls"]}
                    ],
                    "indexes": [
                        {
                            "gallery": "calls",
                            "encoder_id": "0575cb64845e6b9a-speechbrain",
                            "kind": "faiss-flat",
                            "vectors": 51200,
                            "memory_bytes": 39321600,
                            "mapped_bytes": 0,
                            "changes_behind": 0,
                            "lag_s": 0.0,
                            "details": {"rows": "float32", "generation": 3},
                        }
                    ],
                    "media_bytes_free": 64000000000,
                }
            ]
        }
    )

    version: str
    database: Literal["sqlite", "postgresql"]
    jobs_run: Literal["here", "workers"] = Field(description="Who works jobs through.")
    workers: list[WorkUnderWay] = Field(description="Shards that are worked on now; an idle worker is not seen.")
    queues: dict[str, int] = Field(description="What waits; a queue that cannot be asked is left out.")
    device: str = Field(description="Where encoders of this process run, as the setting says.")
    encoders: list[EncoderInUse]
    indexes: list[IndexView] = Field(description="Of this process; another one may be a second apart.")
    media_bytes_free: int | None = Field(description="Room for uploads; null where it cannot be told.")


class Stats(View):
    """What is stored, in all galleries that the key opens."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "galleries": 2,
                    "speakers": 340,
                    "recordings": 12000,
                    "embeddings": 96000,
                    "duration_s": 864000.0,
                    "jobs": {"running": 1, "succeeded": 12},
                }
            ]
        }
    )

    galleries: int
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float = Field(description="Audio of the recordings.")
    jobs: dict[JobState, int] = Field(description="Jobs by state; a state without jobs is left out.")
