"""Labeled trials -> a calibration: which weights make llrs of scores and quality."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from indexer.types import EncoderId
from search.calibration import SHARES, Calibration, Floats, Range, TrainingData, design, quality_measures
from search.calibration_trials import ScoredTrials
from search.metrics import RankedTrials, cllr, min_cllr
from search.normalization import Normalization
from search.open_set_fit import Kinds, fit_open_set

MIN_SPEAKERS = 20
MIN_TARGET_TRIALS = 50
"""Under these a fit says more about whom it happened to see than about scores; measured in docs/decisions."""

MIN_OF_A_SHARE = 1_000
"""Trials over a telephone, and others, under which nothing is learned of the difference."""

_MEASURES = ("brevity", "snr_db", *SHARES)
"""Quality measures that are fitted to."""

_MUCH_BETTER = 0.99
"""Noise is looked at where that makes of Cllr, on speakers held out, at most this."""

SHARED_C = 1_000.0
"""What the trials together count beside the wish that weights be small, where two encoders share them. Ten times as
much left long speech to ECAPA alone in one half of the speakers and to both in the other; a tenth made words worse."""

_TOLERANCE = 1e-7
"""Of the solver: with its own of 1e-4, weights moved by 2 % when a single recording of 2,400 was heard otherwise."""

_SEED = 20260101


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What fits to one half of the speakers made of trials between speakers of the other half.

    Attributes
    ----------
    scores, llrs
        (n,) cosines, the mean of both where two encoders are fused, and what was made of them.
    is_target
        (n,) whether one speaker is on both sides.
    """

    scores: Floats
    llrs: Floats
    is_target: NDArray[np.bool_]


def fit_calibration(
    trials: ScoredTrials,
    *,
    strangers: ScoredTrials | None = None,
    name: str,
    encoder_ids: Sequence[EncoderId],
    description: str,
    recordings: int,
    today: str,
    normalized: Normalization | None = None,
) -> tuple[Calibration, HeldOut]:
    """Fit llrs to labeled trials by logistic regression at equal priors, and measure it on speakers held out.

    Parameters
    ----------
    trials
        Of many speakers, targets and nontargets, as different from each other as those to come.
    strangers
        Each probe with every other speaker, for thresholds of identification; None: the nontargets among `trials`.
    name
        The condition, as "default" or "telephone".
    encoder_ids
        Of the score columns.
    description, recordings, today
        What the recordings are, how many, and the date; they are kept with the figures.
    normalized
        How the scores were normalized; None: they are cosines.

    Raises
    ------
    InvalidRequest
        If there are too few speakers or target trials to learn from, or if the scores do not tell voices apart.

    References
    ----------
    Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech & Language 20
    (2006), for logistic regression as calibration.
    """
    _require_enough(trials)
    fitted, held_out = _best(trials, name, tuple(encoder_ids), _data_of(trials, description, recordings, today))
    calibration = replace(
        fitted,
        cllr_before=cllr(held_out.scores, held_out.is_target),
        cllr_after=cllr(held_out.llrs, held_out.is_target),
        min_cllr=min_cllr(held_out.llrs, held_out.is_target),
        nontarget_llrs=_false_alarm_curve(_llrs(fitted, trials)[~trials.is_target]),
        open_set=fit_open_set(*_by_probe(fitted, _without_one_voice(fitted, trials, strangers or trials))),
        normalized=normalized,
    )
    return calibration, held_out


def likely_one_voice(calibration: Calibration, trials: ScoredTrials, strangers: ScoredTrials) -> list[tuple[str, str]]:
    """Return pairs of labels that sound like one voice: as alike, in three trials or more, as a voice is with itself.

    Labels are wrong more often than voices are doubles, and a few such pairs are enough to spoil a threshold that one
    stranger in a hundred may reach.
    """
    usual = float(np.median(_llrs(calibration, trials)[trials.is_target]))
    unlike = strangers.take(~strangers.is_target)
    names = np.array(unlike.speakers)
    sides = np.sort(np.searchsorted(names, [unlike.enrolled_speakers, unlike.probe_speakers]), axis=0)
    pairs, place, count = np.unique(sides, axis=1, return_inverse=True, return_counts=True)
    mean = np.bincount(place.ravel(), weights=_llrs(calibration, unlike)) / count
    alike = pairs[:, (count >= 3) & (mean >= usual)]
    return [(str(names[first]), str(names[second])) for first, second in alike.T]


def _without_one_voice(calibration: Calibration, trials: ScoredTrials, strangers: ScoredTrials) -> ScoredTrials:
    pairs = likely_one_voice(calibration, trials, strangers)
    alike = np.zeros(len(strangers), dtype=bool)
    for first, second in pairs:
        forth = (strangers.enrolled_speakers == first) & (strangers.probe_speakers == second)
        back = (strangers.enrolled_speakers == second) & (strangers.probe_speakers == first)
        alike |= forth | back
    return strangers.take(~alike)


def _require_enough(trials: ScoredTrials) -> None:
    speakers = len(set(trials.probe_speakers[trials.is_target].tolist()))
    targets = int(trials.is_target.sum())
    if speakers < MIN_SPEAKERS or targets < MIN_TARGET_TRIALS:
        raise InvalidRequest(
            f"{targets} target trials of {speakers} speakers: a calibration needs {MIN_TARGET_TRIALS} of "
            f"{MIN_SPEAKERS} speakers with two recordings or more each; label more recordings"
        )


def _data_of(trials: ScoredTrials, description: str, recordings: int, today: str) -> TrainingData:
    targets = int(trials.is_target.sum())
    return TrainingData(description, len(trials.speakers), recordings, targets, len(trials) - targets, today)


def _best(
    trials: ScoredTrials, name: str, encoder_ids: tuple[EncoderId, ...], data: TrainingData
) -> tuple[Calibration, HeldOut]:
    """Fit the richest set of features under which the llr rises with every score; return what it did on others too.

    Noise is among them where that helps on speakers held out: how noisy a recording is was estimated, and says little
    of strangers beyond what their scores say.
    """
    ranges = _ranges(_measures(trials))
    refused: InvalidRequest | None = None
    for features in _feature_sets(trials.scores.shape[1], ranges):
        try:
            fitted = _fitted(trials, ranges, features, name, encoder_ids, data)
            error, held_out = _cross_validated(trials, fitted)
        except InvalidRequest as why:
            refused = why
            continue
        if "snr_db" in ranges:
            with suppress(InvalidRequest):
                noise = _fitted(trials, ranges, [*features, "snr_db"], name, encoder_ids, data)
                other, noise_held_out = _cross_validated(trials, noise)
                if other < _MUCH_BETTER * error:
                    return noise, noise_held_out
        return fitted, held_out
    assert refused is not None
    raise refused


def _fitted(
    trials: ScoredTrials,
    ranges: dict[str, Range],
    features: Sequence[str],
    name: str,
    encoder_ids: tuple[EncoderId, ...],
    data: TrainingData,
) -> Calibration:
    """Fit these features; refused where the llr would fall with a score."""
    named = {part for feature in features for part in feature.split("*")}
    used = {measure: known for measure, known in ranges.items() if measure in named}
    return Calibration(
        name=name,
        encoder_ids=encoder_ids,
        weights=_regress(trials, used, features),
        ranges=used,
        data=data,
        cllr_before=0.0,
        cllr_after=0.0,
        min_cllr=0.0,
        nontarget_llrs=((1.0, 0.0),),
    )


def _feature_sets(encoders: int, measures: Collection[str]) -> Iterator[list[str]]:
    """Yield sets of features, the richest first."""
    columns = [f"score_{number}" for number in range(1, encoders + 1)]
    scores = ["intercept", *columns]
    if "brevity" in measures:
        yield from _with_telephones(
            [*scores, "brevity", *[f"{column}*brevity" for column in columns]], columns, measures
        )
        yield from _with_telephones([*scores, "brevity"], columns, measures)
    else:
        yield from _with_telephones(scores, columns, measures)
    yield scores


def _with_telephones(features: list[str], columns: Sequence[str], measures: Collection[str]) -> Iterator[list[str]]:
    shares = [share for share in SHARES if share in measures]
    if shares:
        both = [f"{column}*telephone_both" for column in columns if "telephone_both" in shares]
        if "telephone_one" in shares:
            # Between two kinds of lines either encoder is worth something else, and a word less than it is else.
            one = [name for name in features if name != "intercept"]
            yield [*features, *shares, *both, *[f"{name}*telephone_one" for name in one]]
        yield [*features, *shares, *both]
        yield [*features, *shares]
    yield features


def _ranges(quality: dict[str, Floats]) -> dict[str, Range]:
    """Return where the middle 98 % of each quality measure lie, but for those that are unknown or never vary."""
    found: dict[str, Range] = {}
    for name in _MEASURES:
        values = quality[name][~np.isnan(quality[name])]
        if len(values) < len(quality[name]) // 2:
            continue
        if name in SHARES:
            if min(np.count_nonzero(values < 0.5), np.count_nonzero(values >= 0.5)) >= MIN_OF_A_SHARE:
                found[name] = Range(0.0, 1.0, 0.0)
            continue
        low, typical, high = np.quantile(values, [0.01, 0.5, 0.99])
        if high - low > 1e-6:
            found[name] = Range(float(low), float(high), float(typical))
    return found


def _regress(trials: ScoredTrials, ranges: dict[str, Range], features: Sequence[str]) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    measured = _measures(trials)
    quality = {
        name: np.clip(np.where(np.isnan(measured[name]), known.typical, measured[name]), known.low, known.high)
        for name, known in ranges.items()
    }
    matrix = design(trials.scores, quality, [name for name in features if name != "intercept"])
    mean, scale = matrix.mean(axis=0), matrix.std(axis=0)
    scale[scale == 0] = 1.0
    # Both classes weigh the same, which makes the log odds a log likelihood ratio. A dozen weights of so many trials
    # need no shrinking, unless two encoders share them: long speech is told apart without error by either, and nothing
    # but the shrinking says then how much each counts.
    shrinking = 1e4 if trials.scores.shape[1] == 1 else SHARED_C / len(trials)
    regression = LogisticRegression(C=shrinking, max_iter=1000, tol=_TOLERANCE)
    lines = _lines(measured) if set(SHARES) & set(ranges) else np.zeros(len(trials), dtype=np.int64)
    regression.fit((matrix - mean) / scale, trials.is_target, sample_weight=_balanced(trials, lines))
    slopes = regression.coef_[0] / scale
    intercept = float(regression.intercept_[0] - mean @ slopes)
    names = [name for name in features if name != "intercept"]
    return {"intercept": intercept, **{name: float(slope) for name, slope in zip(names, slopes, strict=True)}}


def _lines(measured: dict[str, Floats]) -> NDArray[np.int64]:
    """Return how many sides of each trial came over a telephone: 0, 1 or 2."""
    one, both = (np.nan_to_num(measured[name]) >= 0.5 for name in SHARES)
    lines: NDArray[np.int64] = np.where(both, 2, np.where(one, 1, 0))
    return lines


def _balanced(trials: ScoredTrials, lines: NDArray[np.int64]) -> Floats:
    """Weigh target and nontarget trials alike over each kind of line, or how usual either is there would be evidence.

    Trials of a line over which there is only one of both kinds weigh nothing.
    """
    weights = trials.weights.copy()
    for line in np.unique(lines):
        sides = [(lines == line) & trials.is_target, (lines == line) & ~trials.is_target]
        sums = [weights[side].sum() for side in sides]
        weights[sides[0]] *= 1.0 if sums[1] > 0 else 0.0
        weights[sides[1]] *= sums[0] / sums[1] if sums[1] > 0 else 0.0
    balanced: Floats = weights * len(trials) / weights.sum()
    return balanced


def _llrs(calibration: Calibration, trials: ScoredTrials) -> Floats:
    return calibration.llr(
        trials.scores,
        enrolled_speech_s=trials.enrolled_speech_s,
        probe_speech_s=trials.probe_speech_s,
        snr_db=trials.snr_db,
        enrolled_telephone=trials.enrolled_telephone,
        probe_telephone=trials.probe_telephone,
    )


def _measures(trials: ScoredTrials) -> dict[str, Floats]:
    return quality_measures(
        len(trials),
        trials.enrolled_speech_s,
        trials.probe_speech_s,
        trials.snr_db,
        trials.enrolled_telephone,
        trials.probe_telephone,
    )


def _by_probe(calibration: Calibration, trials: ScoredTrials) -> tuple[list[Floats], Floats, Kinds]:
    """Return the llrs of each probe with other speakers, the first trial with each; how they rise with scores; sets."""
    unlike = trials.take(~trials.is_target)
    _, first = np.unique(np.stack([unlike.probes, _numbered(unlike.enrolled_speakers)]), axis=1, return_index=True)
    kept = unlike.take(np.sort(first))
    order = np.argsort(kept.probes, kind="stable")
    probes = kept.probes[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(probes)) + 1])
    heads = order[starts]
    slopes = calibration.slope(probe_speech_s=kept.probe_speech_s[heads], probe_telephone=kept.probe_telephone[heads])
    kinds = Kinds(kept.probe_sets[heads], np.split(kept.enrolled_sets[order], starts[1:]))
    return np.split(_llrs(calibration, kept)[order], starts[1:]), slopes, kinds


def _numbered(labels: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _cross_validated(trials: ScoredTrials, fitted: Calibration) -> tuple[float, HeldOut]:
    """Return Cllr by weight of trials between speakers that a fit had not seen, and these trials."""
    speakers = np.array(trials.speakers)
    half = set(np.random.default_rng(_SEED).permutation(speakers)[: len(speakers) // 2].tolist())
    first = np.array([speaker in half for speaker in trials.enrolled_speakers.tolist()])
    second = np.array([speaker in half for speaker in trials.probe_speakers.tolist()])
    parts = (trials.take(first & second), trials.take(~first & ~second))
    before, after, labels, weights = [], [], [], []
    for seen, unseen in (parts, parts[::-1]):
        other = _fitted(seen, dict(fitted.ranges), list(fitted.weights), fitted.name, fitted.encoder_ids, fitted.data)
        before.append(unseen.scores.mean(axis=1))
        after.append(_llrs(other, unseen))
        labels.append(unseen.is_target)
        weights.append(unseen.weights)
    llrs, is_target = np.concatenate(after), np.concatenate(labels)
    error = RankedTrials(llrs, is_target).cllr(np.concatenate(weights))
    return error, HeldOut(np.concatenate(before), llrs, is_target)


def _false_alarm_curve(llrs: Floats) -> tuple[tuple[float, float], ...]:
    """Return the llr that each share of nontarget trials reaches, down to a share of ten trials."""
    least = min(0.5, 10 / len(llrs))
    shares = np.geomspace(1.0, least, 40)
    at = np.quantile(llrs, 1.0 - shares)
    return tuple((float(share), float(llr)) for share, llr in zip(shares, np.maximum.accumulate(at), strict=True))
