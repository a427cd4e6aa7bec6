"""All settings, in one frozen tree; the only module that reads the environment.

`VOXDEX_` prefixes every variable and `__` descends into a group: `VOXDEX_AUDIO__MAX_DURATION_S=3600`.
"""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from indexer.errors import InvalidRequest


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AudioSettings(_Group):
    """What is accepted as a recording, and how it is cut."""

    duration_variable: ClassVar[str] = "VOXDEX_AUDIO__MAX_DURATION_S"

    channels: str = Field(default="mix", description="mix, left, right, a channel number from 0, or each")
    max_duration_s: float = Field(default=86_400.0, gt=0, description="longest recording that is decoded")
    max_bytes: int = Field(default=16 * 1024**3, gt=0, description="largest file that is opened")
    max_channels: int = Field(default=64, ge=1, description="most channels a recording may have")
    block_s: float = Field(default=30.0, gt=0, le=600, description="audio held in memory by one decoder")
    utterance_s: float = Field(default=10.0, ge=2, le=60, description="length of an archive's utterances")


class ProbeAudioSettings(AudioSettings):
    """The same for a recording that is only to be identified, under limits of its own."""

    duration_variable: ClassVar[str] = "VOXDEX_API__MAX_PROBE_S"


class EmbeddingSettings(_Group):
    """Which network turns speech into vectors, and where it runs."""

    encoder: str = Field(default="speechbrain-ecapa-voxceleb", description="name in the registry, or a path")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["fast", "exact"] = Field(
        default="fast",
        description="of new galleries; fast: bfloat16 where the device multiplies it (cosine to float32 0.999 or "
        "more), elsewhere exact; exact: float32. A gallery that exists keeps its own",
    )
    batch_audio_s: float | None = Field(
        default=None,
        gt=0,
        description="most audio in one pass through the network; unset: 40 s on a CPU, on a GPU what its memory holds",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of the network; 0 leaves the choice to torch"
    )


class DatabaseSettings(_Group):
    """Where the record is."""

    url: SecretStr | None = Field(default=None, description="SQLAlchemy URL; unset: SQLite in the home folder")


class BrokerSettings(_Group):
    """What carries tasks to the workers."""

    url: SecretStr | None = Field(
        default=None, description="Redis URL, as in redis://:password@host:6379/0; unset: jobs run in the API's process"
    )
    visibility_timeout_s: int = Field(
        default=3600, ge=60, description="after how long the broker gives an unfinished task to another worker"
    )


class JobSettings(_Group):
    """How bulk ingest is cut up, and where it may read."""

    sources: tuple[str, ...] = Field(
        default=(),
        description='JSON list of folders and URL prefixes that jobs may read, as in ["/archive", "s3://calls/"]; '
        "empty: any folder, s3:// and gs:// for admin keys and open servers, and no https:// at all",
    )
    shard_audio_s: float = Field(default=750.0, gt=0, le=3600, description="audio that one task works through")
    shard_files: int = Field(default=256, ge=1, le=1024, description="most files of one task")
    lease_s: float = Field(
        default=30.0,
        ge=2,
        le=600,
        description="silence after which a worker is taken for dead; it reports 3 times in it",
    )
    hang_s: float = Field(
        default=300.0,
        ge=10,
        le=3600,
        description="longest that a worker waits for a file of which nothing is read, decoded or embedded; it then "
        "counts as one that died of it",
    )
    sweep_s: float = Field(default=10.0, ge=0.5, le=300, description="how often lost work is looked for")
    tries: int = Field(default=3, ge=1, le=10, description="workers that may die of one file before it is given up")


class ApiSettings(_Group):
    """The HTTP service."""

    host: str = Field(default="127.0.0.1", description="address to listen on; any but loopback needs an API key")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0: a free one")
    open: bool | None = Field(
        default=None, description="whether requests without a key are served; unset: on loopback while there is no key"
    )
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0, description="largest recording that is uploaded to keep")
    max_probe_bytes: int = Field(default=256 * 1024**2, gt=0, description="largest recording to identify or verify")
    max_probe_s: float = Field(default=1800.0, gt=0, description="longest recording to identify or verify")
    max_uploads: int = Field(
        default=64, ge=1, description="uploads to keep that are under way; more are refused with 503"
    )
    max_listen_bytes: int = Field(
        default=1024**3, gt=0, description="largest recording of another machine that is fetched to listen to it"
    )
    max_watchers: int = Field(default=256, ge=1, description="streams of job events; more are refused with 503")
    rate_limit_per_minute: int = Field(default=1200, ge=1, description="requests of one key in a minute")
    idempotency_hours: float = Field(default=24.0, gt=0, description="how long an Idempotency-Key is remembered")
    session_hours: float = Field(
        default=12.0, gt=0, le=8760, description="how long a browser stays signed in to the page with a key"
    )


class ProbeSettings(_Group):
    """How the voices of requests are embedded."""

    where: Literal["process", "workers"] = Field(
        default="process", description="process: on this machine; workers: on the queue `probes`"
    )
    queue: int = Field(default=256, ge=1, description="probes that may wait; more are refused with 503")
    batch: int = Field(default=16, ge=1, le=256, description="most probes in one pass through the network")
    timeout_s: float = Field(default=60.0, gt=0, description="longest wait for an embedding")
    max_bytes: int = Field(
        default=128 << 20,
        ge=1_000_000,
        description="bytes of audio that one API process may have in the broker's memory; more are refused with 503",
    )


class MediaSettings(_Group):
    """Uploaded recordings."""

    path: Path | None = Field(default=None, description="folder that API and workers share; unset: media in the home")
    min_free_bytes: int = Field(
        default=1024**3, ge=0, description="free space of its disk below which uploads are refused with 503"
    )


class WebhookSettings(_Group):
    """Messages about the end of jobs."""

    secret: SecretStr | None = Field(default=None, description="signing secret, whsec_ and base64; unset: no webhooks")
    allow_private: bool = Field(default=False, description="whether receivers in private networks are called")
    attempts: int = Field(default=8, ge=1, le=20, description="tries before a message is given up")


class MilvusSettings(_Group):
    """The Milvus that searches galleries of the engine milvus."""

    uri: SecretStr | None = Field(
        default=None,
        description="address, as in http://milvus:19530 or https://cluster.example:443; a path that ends in .db: a "
        "Milvus Lite in this process, for one process at a time",
    )
    token: SecretStr | None = Field(default=None, description="API key, or user:password")
    database: str = Field(default="default", min_length=1, description="database of that Milvus")
    prefix: str = Field(
        default="voxdex",
        description="how the names of collections begin; each installation that shares a Milvus needs its own",
    )
    index: Literal["FLAT", "AUTOINDEX"] = Field(
        default="FLAT",
        description="FLAT: every vector is compared, nothing is missed; AUTOINDEX: what Milvus chooses, faster, "
        "and may miss some",
    )
    timeout_s: float = Field(default=10.0, gt=0, description="longest wait for an answer")
    filter_ids: int = Field(
        default=262_144,
        ge=1,
        description="most vectors that a filter may leave; a search that is kept to more is refused",
    )

    @field_validator("uri")
    @classmethod
    def _address(cls, uri: SecretStr | None) -> SecretStr | None:
        if uri is None or _is_milvus_address(uri.get_secret_value()):
            return uri
        raise PydanticCustomError(
            "milvus_address",
            "no address of a Milvus: give http://HOST:PORT, https://HOST:PORT, "
            "tcp://HOST:PORT, unix:PATH, or a path that ends in .db",
        )

    @field_validator("prefix")
    @classmethod
    def _beginning_of_a_name(cls, prefix: str) -> str:
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", prefix):
            return prefix
        raise PydanticCustomError(
            "milvus_prefix", "give 1 to 100 letters from a to z, digits and underscores, of which the first is no digit"
        )


def _is_milvus_address(uri: str) -> bool:
    if "://" not in uri:
        return not uri or uri.endswith(".db") or uri.startswith("unix:")
    try:
        parts = urlsplit(uri)
        return parts.scheme in {"http", "https", "tcp"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or above 65535
        return False


class IndexSettings(_Group):
    """Which engine searches the vectors, and how."""

    engine: Literal["faiss", "faiss-gpu", "milvus"] = Field(
        default="faiss",
        description="faiss: in the process; faiss-gpu: the same with the scan on a GPU, where there is one; milvus: a "
        "Milvus server; a gallery that was migrated keeps its own",
    )
    compress_above: int = Field(
        default=50_000,
        ge=1000,
        description="vectors from which on a gallery is scanned by compressed codes, whose best are scored exactly",
    )
    rows: Literal["float32", "float16"] = Field(
        default="float32",
        description="precision of the vectors that scores are computed from; float16 halves the files, and a score may "
        "then be off by up to 0.0005",
    )
    device: str = Field(
        default="cuda",
        description="device of faiss-gpu: cuda or cuda:N, where there is none the CPU scans; cpu: to try the same code",
    )
    milvus: MilvusSettings = MilvusSettings()

    @field_validator("device")
    @classmethod
    def _device_that_scans(cls, device: str) -> str:
        if re.fullmatch(r"cuda(:\d+)?|cpu", device):
            return device
        raise PydanticCustomError("index_device", "give cuda, cuda:N, or cpu to try the same code without a GPU")


class IngestSettings(_Group):
    """How an archive is read."""

    decode_threads: int = Field(default=2, ge=1, le=64, description="recordings decoded at the same time")


SPEAKERS_PATTERN = "auto|one|channels|[1-9]|1[0-9]|20"
"""How many voices a recording is said to hold."""


class SpeechSettings(_Group):
    """What is taken for speech, and for how many voices."""

    detector: Literal["silero", "off"] = Field(
        default="silero", description="silero: finds speech; off: everything that sounds is speech"
    )
    threshold: float = Field(default=0.5, gt=0, lt=1, description="probability from which on speech begins")
    release_threshold: float = Field(
        default=0.35,
        gt=0,
        lt=1,
        description="probability below which speech ends; one above `threshold` counts as that",
    )
    min_speech_s: float = Field(default=0.1, ge=0, le=10, description="shorter sounds are no speech")
    min_silence_s: float = Field(default=0.3, ge=0, le=10, description="shorter pauses belong to the speech around")
    padding_s: float = Field(default=0.1, ge=0, le=2, description="added to both sides of a stretch of speech")
    speakers: str = Field(
        default="auto",
        description="voices of a recording: auto, one, channels (one a channel), or how many (1 to 20)",
    )
    min_identify_s: float = Field(
        default=0.3, ge=0, description="net speech below which a voice is not identified: not_enough_speech"
    )
    min_snr_db: float | None = Field(
        default=None,
        description="dB of speech above noise below which a voice is not enrolled or identified; unset: any",
    )

    @field_validator("speakers")
    @classmethod
    def _speakers(cls, speakers: str) -> str:
        if re.fullmatch(SPEAKERS_PATTERN, speakers):
            return speakers
        raise PydanticCustomError("speakers", "give auto, one, channels, or how many: 1 to 20")


class DecisionSettings(_Group):
    """Where decisions are made, as far as neither the request nor the gallery says, and what a voice is made of."""

    identification_threshold: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="cosine from which on a voice is identified; unset: by target_fpir, uncalibrated the encoder's",
    )
    verification_threshold: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="cosine from which on a claim is accepted; unset: by target_p_fa, uncalibrated the encoder's",
    )
    possible_threshold: float | None = Field(
        default=None, ge=-1, le=1, description="cosine from which on a voice is possible, where cosines decide"
    )
    calibration: str = Field(
        default="default", description="name of the shipped calibration of galleries that have none of their own"
    )
    target_fpir: float = Field(default=0.01, gt=0, lt=1, description="largest share of unknown voices that is named")
    possible_fpir: float | None = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="largest share of unknown voices that is named or called possible; unset: none is called possible",
    )
    target_p_fa: float = Field(default=0.001, gt=0, lt=1, description="largest share of false claims that is accepted")
    prior: float = Field(
        default=0.5, gt=0, lt=1, description="how likely a claim is true, or a voice enrolled, before it is heard"
    )
    c_miss: float | None = Field(
        default=None, gt=0, description="cost of a miss; with c_fa, claims are decided at least cost"
    )
    c_fa: float | None = Field(default=None, gt=0, description="cost of a false alarm; see c_miss")
    min_enrollment_s: float = Field(
        default=1.0,
        ge=0,
        description="least net speech that a request may enroll a voice with; jobs and commands take any",
    )


class LoggingSettings(_Group):
    """What is logged to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        default=None,
        description="DEBUG, INFO, WARNING or ERROR; unset: INFO for serve, worker and beat, WARNING for the rest",
    )
    format: Literal["text", "json"] | None = Field(
        default=None, description="text or json; unset: json for serve, worker and beat, text for the rest"
    )


class MetricsSettings(_Group):
    """Where a worker answers Prometheus; the API does at /metrics."""

    worker_host: str = Field(default="127.0.0.1", description="address on which a worker process answers /metrics")
    worker_port: int | None = Field(
        default=None, ge=0, le=65535, description="port on which a worker process answers /metrics; unset: it does not"
    )


class Settings(BaseSettings):
    """The whole configuration of one process, built once at its edge."""

    model_config = SettingsConfigDict(
        env_prefix="VOXDEX_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".voxdex", description="database, index files, registry")
    cache: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "voxdex", description="downloaded weights and demo recordings"
    )
    offline: bool = Field(default=False, description="never touch the network")
    audio: AudioSettings = AudioSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    ingest: IngestSettings = IngestSettings()
    jobs: JobSettings = JobSettings()
    api: ApiSettings = ApiSettings()
    probes: ProbeSettings = ProbeSettings()
    media: MediaSettings = MediaSettings()
    webhooks: WebhookSettings = WebhookSettings()
    index: IndexSettings = IndexSettings()
    speech: SpeechSettings = SpeechSettings()
    decision: DecisionSettings = DecisionSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()

    @property
    def probe_audio(self) -> ProbeAudioSettings:
        """What is accepted as a recording to identify: the stricter of both limits."""
        limits = {
            "max_duration_s": min(self.api.max_probe_s, self.audio.max_duration_s),
            "max_bytes": min(self.api.max_probe_bytes, self.audio.max_bytes),
        }
        return ProbeAudioSettings(**{**self.audio.model_dump(), **limits})

    @property
    def sqlite_path(self) -> Path:
        """File of the record where no database URL is set."""
        return (self.home / "voxdex.sqlite3").absolute()

    @property
    def media_path(self) -> Path:
        """Folder of uploaded recordings."""
        return self.media.path or (self.home / "media").absolute()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the record."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{quote(str(self.sqlite_path))}"


_SECRET = (("database",), ("broker",), ("webhooks",), ("index", "milvus", "uri"), ("index", "milvus", "token"))
"""Groups and fields of which no value is ever shown; nor is one of a field that is not known: theirs misspelled."""


def _may_be_secret(place: tuple[int | str, ...]) -> bool:
    """Tell whether what was given there is a secret, or a group that holds one."""
    return any(place[: len(secret)] == secret[: len(place)] for secret in _SECRET)


def load_settings(**overrides: Any) -> Settings:
    """Build the settings from the environment; an override that is None leaves the environment's value.

    Raises
    ------
    InvalidRequest
        If a variable or an override is out of range; the message names it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except SettingsError as error:
        reason = error.__cause__ or error
        raise InvalidRequest(
            f"{error} ({reason}); a group is set as JSON, or field by field: VOXDEX_AUDIO__BLOCK_S"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = "VOXDEX_" + "__".join(str(part) for part in first["loc"]).upper()
        hidden = _may_be_secret(first["loc"]) or first["type"] == "extra_forbidden"
        given_value = "" if hidden else f" = {first['input']!r}"
        raise InvalidRequest(f"setting {name}{given_value}: {first['msg']}") from error
