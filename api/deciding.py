"""Which rules a decision follows: whose thresholds and rates, and which calibration."""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from indexer.embedding.registry import EncoderSpec
from indexer.errors import EncoderMismatch, InvalidRequest
from indexer.settings import Settings
from indexer.types import EncoderId, without_precision
from search.calibration import Calibration, default_calibration
from search.evidence import EVEN, require_prior
from search.identification import Rules
from search.normalization import Normalization
from search.operating_point import Costs, ThresholdSource, Wanted
from search.stored_calibration import stored_calibration

if TYPE_CHECKING:  # Loads SQLAlchemy, which commands without a gallery start quicker without.
    from indexer.db.rows import GalleryHead
    from indexer.db.session import Database

_KEPT = 64
_read: OrderedDict[str, Calibration] = OrderedDict()
_reading = threading.Lock()
"""Calibrations that were read from records lately; an id names its content, so one never goes out of date."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of a decision; what it leaves out is the gallery's, the setting's or the encoder's.

    Attributes
    ----------
    wanted
        A threshold, an error rate (FPIR or p_fa), or costs: at most one of them.
    prior
        What posteriors assume.
    """

    wanted: Wanted = field(default_factory=Wanted)
    prior: float | None = None

    def __post_init__(self) -> None:
        wanted = self.wanted
        given = [wanted.score, wanted.llr, wanted.rate, wanted.costs]
        if sum(value is not None for value in given) > 1:
            raise InvalidRequest(
                "several operating points at once: give one of a score threshold, an llr threshold, an error rate, "
                "or p_target with costs"
            )
        if self.prior is not None:
            require_prior(self.prior)


NOTHING = Asked()
"""A request that leaves everything to the gallery, the settings and the encoder."""


def costs_of(p_target: float | None, c_miss: float | None, c_fa: float | None, prior: float | None) -> Costs | None:
    """Return the costs that a request gives any of; None where it gives none.

    Raises
    ------
    InvalidRequest
        If `p_target` is no probability, or a cost is not above zero.
    """
    if p_target is None and c_miss is None and c_fa is None:
        return None
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if cost is not None and not 0.0 < cost < math.inf:
            raise InvalidRequest(f"{name} {cost:g} is out of range: a cost is above 0")
    chosen = p_target if p_target is not None else prior
    return Costs(
        EVEN if chosen is None else require_prior(chosen),
        1.0 if c_miss is None else c_miss,
        1.0 if c_fa is None else c_fa,
    )


class Deciding:
    """Makes the rules of decisions under one encoder, or under two whose scores are fused."""

    def __init__(self, settings: Settings, spec: EncoderSpec, encoder_ids: Sequence[EncoderId]) -> None:
        self._decision = settings.decision
        self._spec = spec
        self._encoder_ids = tuple(encoder_ids)

    def identification(
        self,
        asked: Asked,
        head: "GalleryHead | None" = None,
        own: Calibration | None = None,
        *,
        utterances: bool = False,
    ) -> tuple[Rules, list[str]]:
        """Return the rules for the best speaker of a gallery, and what to say about them in plain words.

        Parameters
        ----------
        own
            The calibration that the gallery was given; None: it has none of its own.
        utterances
            Whether utterances are found instead of speakers: under the first encoder, by plain cosines.

        Raises
        ------
        EncoderMismatch
            If that calibration is of other encoders.
        InvalidRequest
            If the gallery normalizes scores, and its calibration is not of normalized ones.
        """
        normalizes = head is not None and head.score_normalization and not utterances
        calibration, notes = self._calibration(own, self._encoder_ids[: 1 if utterances else None], normalizes)
        settings = self._decision
        rate: float | None = settings.target_fpir
        possible_rate = settings.possible_fpir
        if calibration is not None and calibration.open_set is None:
            # Nobody asked for these in so many words: what cannot be promised is left out.
            rate = possible_rate = None
        gallery = Wanted()
        if head is not None:
            gallery = Wanted(
                score=head.identification_threshold,
                rate=head.target_fpir,
                possible_score=head.possible_threshold,
                possible_rate=head.possible_fpir,
            )
        setting = Wanted(
            score=settings.identification_threshold,
            rate=rate,
            possible_score=settings.possible_threshold,
            possible_rate=possible_rate,
        )
        return self._rules(asked, gallery, setting, self._spec.identification_threshold, calibration), notes

    def verification(
        self, asked: Asked, head: "GalleryHead | None" = None, own: Calibration | None = None
    ) -> tuple[Rules, list[str]]:
        """Return the rules for one claim, and what to say about them; see `identification` for the errors."""
        calibration, notes = self._calibration(own, self._encoder_ids, head is not None and head.score_normalization)
        settings = self._decision
        gallery = Wanted()
        if head is not None:
            gallery = Wanted(score=head.verification_threshold, rate=head.target_p_fa)
        costs = None
        if settings.c_miss is not None and settings.c_fa is not None:
            costs = Costs(settings.prior, settings.c_miss, settings.c_fa)
        setting = Wanted(
            score=settings.verification_threshold,
            rate=settings.target_p_fa if costs is None else None,
            costs=costs,
        )
        return self._rules(asked, gallery, setting, self._spec.verification_threshold, calibration), notes

    def _rules(
        self,
        asked: Asked,
        gallery: Wanted,
        setting: Wanted,
        default: float | None,
        calibration: Calibration | None,
    ) -> Rules:
        costs = asked.wanted.costs
        prior = asked.prior if asked.prior is not None else costs.p_target if costs else self._decision.prior
        source: ThresholdSource = "family" if self._spec.local_path else "encoder"
        layers: list[tuple[ThresholdSource, Wanted]] = [
            ("request", asked.wanted),
            ("gallery", gallery),
            ("setting", setting),
            (source, Wanted(score=default)),
        ]
        return Rules(calibration, layers, self._spec.name, prior)

    def _calibration(
        self, own: Calibration | None, encoder_ids: tuple[EncoderId, ...], normalizes: bool
    ) -> tuple[Calibration | None, list[str]]:
        """Return what makes llrs of scores here: the gallery's own, else the one that is shipped under its name."""
        notes = []
        if normalizes:
            require_normalized(own)
        elif own is not None and own.normalized is not None:
            notes.append(
                f"decided without calibration {own.id[:12]}, which is of normalized scores: these are plain ones"
            )
            own = None
        first = encoder_ids[:1]
        weights = tuple(map(without_precision, encoder_ids))
        if own is not None and tuple(map(without_precision, own.encoder_ids)) not in (weights, weights[:1]):
            raise EncoderMismatch(
                f"calibration {own.id[:12]} is of {' and '.join(own.encoder_ids)}, and the gallery is searched under "
                f"{' and '.join(encoder_ids)}: fit one with `voxdex calibrate`, or choose one with "
                "`voxdex calibrations use`"
            )
        name = self._decision.calibration
        found = own or default_calibration(encoder_ids, name) or default_calibration(first, name)
        if len(encoder_ids) == 2 and (found is None or len(found.encoder_ids) == 1):
            notes.append(
                "decided under the first encoder alone: no calibration fuses the two of this gallery; `voxdex "
                "calibrate` fits one"
            )
        if found is None:
            notes.append(f"uncalibrated: no calibration is known for encoder {self._spec.name}")
        return found, notes


def require_normalized(calibration: Calibration | None) -> Normalization:
    """Return what the scores of a gallery that normalizes them are normalized by: whatever its calibration was.

    Raises
    ------
    InvalidRequest
        If it has none of normalized scores: what an llr of plain cosines makes of others means nothing.
    """
    if calibration is None or calibration.normalized is None:
        which = "there is none" if calibration is None else f"{calibration.id[:12]} is of plain cosines"
        raise InvalidRequest(
            f"score normalization needs a calibration of normalized scores, and {which}: fit one with `voxdex "
            "calibrate --as-norm --gallery NAME`, or turn it off"
        )
    return calibration.normalized


def of_plain_scores(rules: Rules) -> tuple[Rules, list[str]]:
    """Return rules for plain scores, and what to say about them, where a gallery cannot normalize those it is about."""
    if rules.calibration is None or rules.calibration.normalized is None:
        return rules, []
    scored = [(source, wanted) for source, wanted in rules.layers if wanted.score is not None]
    return replace(rules, calibration=None, layers=scored), [
        "the gallery normalizes its scores; these figures are of plain cosines, which tell voices apart less well"
    ]


def calibration_of(database: "Database", head: "GalleryHead") -> Calibration | None:
    """Return the calibration that a gallery was given; None where it has none of its own."""
    number = head.calibration_id
    if number is None:
        return None
    with _reading:
        if number in _read:
            _read.move_to_end(number)
            return _read[number]
    from indexer.db.calibrations import Calibrations

    with database.read_scope() as session:
        stored = Calibrations(session).find(number)
    if stored is None:  # Deleted since the head was read: the gallery has none any more.
        return None
    calibration = stored_calibration(stored.id, stored.document)
    with _reading:
        _read[number] = calibration
        while len(_read) > _KEPT:
            _read.popitem(last=False)
    return calibration
