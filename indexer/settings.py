"""All settings, in one frozen tree; the only module that reads the environment.

`VOXDEX_` prefixes every variable and `__` descends into a group: `VOXDEX_AUDIO__MAX_DURATION_S=3600`.
"""

from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from indexer.errors import InvalidRequest


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AudioSettings(_Group):
    """What is accepted as a recording, and how it is cut."""

    channels: str = Field(default="mix", description="mix, left, right, a channel number from 0, or each")
    max_duration_s: float = Field(default=86_400.0, gt=0, description="longest recording that is decoded")
    max_bytes: int = Field(default=16 * 1024**3, gt=0, description="largest file that is opened")
    max_channels: int = Field(default=64, ge=1, description="most channels a recording may have")
    block_s: float = Field(default=30.0, gt=0, le=600, description="audio held in memory by one decoder")
    utterance_s: float = Field(default=10.0, ge=2, le=60, description="length of an archive's utterances")


class EmbeddingSettings(_Group):
    """Which network turns speech into vectors, and where it runs."""

    encoder: str = Field(default="speechbrain-ecapa-voxceleb", description="name in the registry, or a path")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    batch_audio_s: float = Field(default=40.0, gt=0, description="most audio in one pass through the network")
    threads: int = Field(default=0, ge=0, description="CPU threads of the network; 0 leaves the choice to torch")


class DatabaseSettings(_Group):
    """Where the record is."""

    url: SecretStr | None = Field(default=None, description="SQLAlchemy URL; unset: SQLite in the home folder")


class IngestSettings(_Group):
    """How an archive is read."""

    decode_threads: int = Field(default=2, ge=1, le=64, description="recordings decoded at the same time")


class DecisionSettings(_Group):
    """Thresholds that replace the encoder's published ones."""

    identification_threshold: float | None = Field(
        default=None, ge=-1, le=1, description="cosine from which on a voice is identified; unset: the encoder's"
    )
    verification_threshold: float | None = Field(
        default=None, ge=-1, le=1, description="cosine from which on a claim is accepted; unset: the encoder's"
    )


class LoggingSettings(_Group):
    """What is logged to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="DEBUG, INFO, WARNING or ERROR"
    )


class Settings(BaseSettings):
    """The whole configuration of one process, built once at its edge."""

    model_config = SettingsConfigDict(
        env_prefix="VOXDEX_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".voxdex", description="database, index files, registry")
    cache: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "voxdex", description="downloaded weights and demo recordings"
    )
    offline: bool = Field(default=False, description="never touch the network")
    audio: AudioSettings = AudioSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    database: DatabaseSettings = DatabaseSettings()
    ingest: IngestSettings = IngestSettings()
    decision: DecisionSettings = DecisionSettings()
    logging: LoggingSettings = LoggingSettings()

    @property
    def sqlite_path(self) -> Path:
        """File of the record where no database URL is set."""
        return (self.home / "voxdex.sqlite3").absolute()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the record."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{quote(str(self.sqlite_path))}"


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
        raise InvalidRequest(f"setting {name} = {first['input']!r}: {first['msg']}") from error
