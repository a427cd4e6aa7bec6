"""Containers with several audio tracks, as films and meeting recorders write them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.formats.audio_samples import Signal


def write_tracks(path: Path, tracks: Sequence[Signal], rate_hz: int, *, default: int = 0) -> None:
    """Write (N,) or (N, C) signals as FLAC tracks of one Matroska file; players begin with `default`."""
    with av.open(str(path), "w", format="matroska") as output:
        streams: list[Any] = []
        for number, samples in enumerate(tracks):
            layout = "stereo" if samples.ndim == 2 else "mono"
            stream: Any = output.add_stream("flac", rate=rate_hz, layout=layout)
            stream.codec_context.format = "s16"
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for stream, samples in zip(streams, tracks, strict=True):
            columns = np.round(samples.reshape(len(samples), -1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(columns.reshape(1, -1)), format="s16", layout=stream.codec_context.layout.name
            )
            frame.sample_rate, frame.pts = rate_hz, 0
            to_codec = av.AudioResampler("s16", stream.codec_context.layout, rate_hz, stream.codec_context.frame_size)
            for part in [*to_codec.resample(frame), *to_codec.resample(None)]:
                output.mux(stream.encode(part))
            output.mux(stream.encode(None))
