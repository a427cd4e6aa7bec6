"""What every evaluation works with: encoders, ways of hearing, the cache, calibrations, and the systems they make."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from api.evaluation.cache import HeardCache
from api.evaluation.copies import CopyMaker
from api.evaluation.hearing import HeardRecording, Hearing, ProductHearing, WholeFile
from api.evaluation.recordings import Advance, hear_copies, hear_files
from api.evaluation.remembering import RememberingEncoder
from api.evaluation.systems import System
from indexer.audio.speech import make_detector
from indexer.errors import InvalidRequest
from indexer.listening import Listening
from indexer.settings import Settings
from indexer.types import EncoderId, without_precision
from search.calibration import Calibration, default_calibration
from search.listening import make_listening

if TYPE_CHECKING:  # Loads torch.
    from indexer.embedding.encoder import Encoder

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""Makes a bar of a label and a number of steps."""

LoadEncoder = Callable[[str | None], "Encoder"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is put side by side.

    Attributes
    ----------
    encoders
        Names; none: the setting's.
    fusion
        Two encoders' scores together, as one more system.
    baseline
        The default encoder's plain cosine of whole files, as one more system.
    calibrations
        That take the place of those that come with the product.
    calibrated
        Whether llrs are measured at all.
    as_norm
        Scores that are normalized by other speakers, as one more system for each.
    """

    encoders: tuple[str, ...] = ()
    fusion: bool = False
    baseline: bool = False
    calibrations: tuple[Calibration, ...] = ()
    calibrated: bool = True
    as_norm: bool = False


class Workbench:
    """Hears recordings, and makes the systems that are asked for of what was heard.

    Raises
    ------
    InvalidRequest
        If fusion is asked for without two encoders, or a calibration is of none of the encoders, or of normalized
        scores where none are.
    """

    def __init__(
        self,
        wanted: Wanted,
        settings: Settings,
        load: LoadEncoder,
        *,
        cache: HeardCache | None,
        progress: Progress,
    ) -> None:
        self.wanted = wanted
        self._cache = cache
        self._progress = progress
        self.settings = settings
        self.least_speech_s = settings.speech.min_identify_s
        """Net speech below which the product answers that it is not enough."""

        def ready(name: str | None) -> "Encoder":
            return load(name) if cache is None else RememberingEncoder(load(name), cache)

        names = wanted.encoders or (None,)
        self._encoders = list({encoder.id: encoder for encoder in map(ready, names)}.values())
        if wanted.fusion and len(self._encoders) != 2:
            raise InvalidRequest(f"--fusion joins two encoders, {len(self._encoders)} given: name two with --encoder")
        self._product: Hearing = ProductHearing(self._encoders, settings)
        self._plain: Hearing | None = WholeFile(ready(None), settings) if wanted.baseline else None
        used = [tuple(without_precision(encoder.id) for encoder in group) for group in self._groups()]
        for calibration in wanted.calibrations:
            if tuple(map(without_precision, calibration.encoder_ids)) not in used:
                raise InvalidRequest(
                    f"calibration {calibration.name} is of {', '.join(calibration.encoder_ids)}, evaluated are "
                    f"{'; '.join(', '.join(ids) for ids in used)}: name its encoders with --encoder, in its order"
                )
            if calibration.normalized is not None and not wanted.as_norm:
                raise InvalidRequest(f"calibration {calibration.name} is of normalized scores: give --as-norm as well")

    def hear(self, files: Sequence[Path], maker: CopyMaker | None = None) -> "Heard":
        """Hear recordings in every way that a system needs; behind them, a copy of each under each condition."""
        plain = None if self._plain is None else self._hear("baseline", self._plain, files, maker)
        return Heard(self._hear("recordings", self._product, files, maker), plain)

    def _hear(
        self, label: str, hearing: Hearing, files: Sequence[Path], maker: CopyMaker | None
    ) -> list[HeardRecording]:
        with self._progress(label, len(files)) as advance:
            heard = hear_files(hearing, files, self._cache, advance)
        for condition in maker.conditions if maker is not None else ():
            assert maker is not None
            with self._progress(f"{label} {condition}", len(files)) as advance:
                heard += hear_copies(hearing, files, condition, maker, self._cache, advance)
        return heard

    @property
    def listening(self) -> Listening:
        """How the product listens to recordings."""
        return make_listening(self.settings.speech, make_detector(self.settings.speech))

    @property
    def encoders(self) -> "Sequence[Encoder]":
        """The encoders that are put side by side."""
        return self._encoders

    def systems(self, heard: "Heard") -> list[System]:
        """Return what is put side by side, the baseline first."""
        systems = []
        if self._plain is not None and heard.plain is not None:
            (plain,) = self._plain.encoders
            systems.append(System("baseline", heard.plain, (plain.id,)))
        for group in self._groups():
            ids = tuple(encoder.id for encoder in group)
            name = group[0].name if len(group) == 1 else "fusion"
            systems.append(System(name, heard.product, ids))
            calibration = self._calibration(ids)
            if calibration is not None:
                systems.append(System(f"{name} calibrated", heard.product, ids, calibration))
            if self.wanted.as_norm:
                systems.append(System(f"{name} as-norm", heard.product, ids, as_norm=True))
                calibration = self._calibration(ids, normalized=True)
                if calibration is not None:
                    systems.append(System(f"{name} as-norm calibrated", heard.product, ids, calibration, as_norm=True))
        return systems

    def _groups(self) -> "list[list[Encoder]]":
        return [[encoder] for encoder in self._encoders] + ([self._encoders] if self.wanted.fusion else [])

    def _calibration(self, ids: tuple[EncoderId, ...], *, normalized: bool = False) -> Calibration | None:
        if not self.wanted.calibrated:
            return None
        weights = tuple(map(without_precision, ids))
        for given in self.wanted.calibrations:
            of = tuple(map(without_precision, given.encoder_ids))
            if of == weights and (given.normalized is not None) is normalized:
                return given
        return None if normalized else default_calibration(ids)


@dataclass(frozen=True, slots=True)
class Heard:
    """The recordings of an evaluation and their copies, as the product and as the baseline hear them."""

    product: list[HeardRecording]
    plain: list[HeardRecording] | None
