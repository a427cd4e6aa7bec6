"""Who speaks when: vectors of overlapping windows -> turns of voices, their number given or found.

Windows are clustered into more groups than there are voices; groups become voices by asking, in turn, which voice fits
each tenth of a second best (`resegmentation`), what each voice sounds like where it is heard alone, and which two
voices are one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from indexer.audio.regions import Region, bridged
from indexer.errors import InvalidRequest
from indexer.listening import VoiceTurn
from indexer.types import EncoderId, Vectors, without_precision
from search.resegmentation import Coverage, FrameGrid, Labels, edges_of, sharpen_changes
from search.voice_groups import DiarizationTuning, Windows, settle_voices

TUNINGS: Mapping[EncoderId, DiarizationTuning] = {
    EncoderId("92f29b94e6948786-kaldi"): DiarizationTuning(  # campplus-zh-en
        own_share=0.55, same_voice=0.6, halves_unlike=0.0, strangers=None
    ),
}
"""Of encoders whose vectors of one voice lie closer together than the default one's."""

_STEP_S = 0.1
_BRIDGED_S = 0.3
"""Windows go through pauses up to this long."""
_SHORTEST_S = 0.5


class ClusteringDiarizer:
    """A `Diarizer` over any encoder's vectors.

    Parameters
    ----------
    tuning : DiarizationTuning
        Of the encoder whose vectors it is given.
    """

    def __init__(self, tuning: DiarizationTuning | None = None) -> None:
        self._tuning = tuning or DiarizationTuning()

    def for_encoder(self, encoder_id: EncoderId) -> "ClusteringDiarizer":
        """Return one that is tuned to an encoder's vectors; to the default encoder's where the encoder is not known."""
        return ClusteringDiarizer(TUNINGS.get(without_precision(encoder_id), DiarizationTuning()))

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        """Plan what to embed: overlapping windows inside the regions, or through pauses too short to matter.

        Nearly all have one of a few lengths, so that they share passes; those of stretches shorter than a window are
        cut to a quarter of a second.
        """
        planned: list[Region] = []
        for start_s, end_s in bridged(regions, _BRIDGED_S):
            for size_s, hop_s in zip(self._tuning.window_s, self._tuning.hop_s, strict=True):
                planned += _windows_over(start_s, end_s, size_s, hop_s)
        return sorted(set(planned))

    def turns(
        self, regions: Sequence[Region], windows: Sequence[Region], vectors: Vectors, *, speakers: int | None = None
    ) -> list[VoiceTurn]:
        """Tell who speaks when.

        Parameters
        ----------
        regions
            Speech of one track, rising and disjoint.
        windows
            As `windows` planned them.
        vectors : (W, D) float32 array
            Their unit vectors.
        speakers
            How many voices there are; None finds their number.

        Returns
        -------
        list of VoiceTurn
            Rising, disjoint, together the regions; voices are numbered by first appearance. Where two voices overlap,
            the one that is heard better gets the time.

        Raises
        ------
        InvalidRequest
            If `speakers` is less than one, or there is not one vector for each window.
        """
        if speakers is not None and speakers < 1:
            raise InvalidRequest(f"speakers = {speakers}: must be 1 or more")
        if len(windows) != len(vectors):
            raise InvalidRequest(f"{len(windows)} windows and {len(vectors)} vectors: give one vector for each window")
        if not regions or not windows:
            return [VoiceTurn(0, region.start_s, region.end_s) for region in regions]
        grid = FrameGrid.over(regions, _STEP_S)
        coverage = Coverage(windows, grid)
        starts, ends = edges_of(windows)
        durations_s = ends - starts
        if speakers == 1:
            return _as_turns(np.zeros(len(grid), dtype=np.int64), grid)
        heard = Windows(vectors, durations_s, grid, coverage)
        labels = settle_voices(heard, self._tuning, speakers)
        _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
        labels = np.argsort(np.argsort(first))[labels]  # numbered by first appearance
        means = heard.means(coverage.pure_labels(labels), len(first))
        short = np.flatnonzero(durations_s <= self._tuning.window_s[-1] + 1e-3)
        cosines = (vectors @ means.T.astype(vectors.dtype))[short].astype(np.float64)
        return sharpen_changes(_as_turns(labels, grid), [windows[row] for row in short.tolist()], cosines, means)


def _windows_over(start_s: float, end_s: float, size_s: float, hop_s: float) -> list[Region]:
    length_s = end_s - start_s
    if length_s < _SHORTEST_S / 2:
        return []
    if length_s < size_s:
        cut_s = max(np.floor(length_s / 0.25) * 0.25, min(length_s, _SHORTEST_S))
        return [Region(round(start_s + (length_s - cut_s) / 2, 3), round(start_s + (length_s + cut_s) / 2, 3))]
    count = int(np.ceil((length_s - size_s) / hop_s - 1e-6)) + 1
    firsts = np.minimum(start_s + hop_s * np.arange(count), end_s - size_s)
    return [Region(round(float(first), 3), round(float(first) + size_s, 3)) for first in firsts]


def _as_turns(labels: Labels, grid: FrameGrid) -> list[VoiceTurn]:
    first = np.flatnonzero(np.concatenate(([True], (labels[1:] != labels[:-1]) | (grid.pause_s[1:] > 0))))
    last = np.concatenate((first[1:], [len(labels)])) - 1
    return [
        VoiceTurn(int(labels[a]), float(grid.start_s[a]), float(grid.end_s[b]))
        for a, b in zip(first, last, strict=True)
    ]
