"""The Silero VAD network, run over many frames at once: the wheel's own weights, on CPU threads only."""

import importlib.util
import math
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from indexer.audio.speech import CONTEXT_SAMPLES, FRAME_SAMPLES
from indexer.embedding.products import Product
from indexer.errors import CorruptArtifact, Unavailable, one_line
from indexer.torch_threads import one_thread
from indexer.types import Waveform

_STATE = 128
_MODEL = Path("data") / "silero_vad.jit"
"""The wheel's `silero_vad_16k.safetensors` holds the weights of an earlier version: its probabilities differ by 0.4."""

_REMEDY = "install the package silero-vad 6.2 again"

_NAMES = (
    {"stft_conv.weight": "_model.stft.forward_basis_buffer"}
    | {
        f"conv{layer + 1}.{kind}": f"_model.encoder.{layer}.reparam_conv.{kind}"
        for layer in range(4)
        for kind in ("weight", "bias")
    }
    | {
        f"lstm.{kind}_{side}_l0": f"_model.decoder.rnn.{kind}_{side}"
        for kind in ("weight", "bias")
        for side in ("ih", "hh")
    }
    | {f"final_conv.{kind}": f"_model.decoder.decoder.2.{kind}" for kind in ("weight", "bias")}
)
"""Our name of each tensor -> its name in the wheel's model."""


@dataclass(frozen=True, slots=True)
class SileroState:
    """What the network remembers of a track: its LSTM's (1, 1, 128) output and cell."""

    output: Tensor
    cell: Tensor

    @classmethod
    def initial(cls) -> "SileroState":
        """Return the state before the first frame."""
        return cls(torch.zeros(1, 1, _STATE), torch.zeros(1, 1, _STATE))


class SileroNetwork(nn.Module):
    """Silero VAD 6 for 16 kHz: Fourier magnitudes, four convolutions inside a frame, an LSTM over the frames.

    The published model is called once for every 32 ms, which costs far more than its arithmetic. Only the LSTM depends
    on the frame before, so here the frames of a group pass the convolutions as one batch and the LSTM as one sequence.

    References
    ----------
    Silero Team, "Silero VAD", https://github.com/snakers4/silero-vad (MIT); the layer sizes are those of its weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(_STATE, _STATE)
        self.final_conv = nn.Conv1d(_STATE, 1, 1)

    @cached_property
    def _matrices(self) -> "_Matrices":
        return _Matrices(self)

    def forward(self, frames: Tensor, state: SileroState) -> tuple[Tensor, SileroState]:
        """Give (T,) probabilities of speech for (T, 64 + 512) consecutive frames, and the state after them."""
        hidden = self._matrices.inside_frames(frames)
        outputs, (output, cell) = self.lstm(hidden.unsqueeze(1), (state.output, state.cell))
        logits = self._matrices.logits(outputs.squeeze(1).relu())
        return logits.sigmoid(), SileroState(output, cell)

    def is_fourier(self) -> bool:
        """Tell whether the first layer is a windowed Fourier transform, as which it is computed."""
        basis = self.stft_conv.weight.squeeze(1).double()  # (258, 256): cosines, then sines
        turns = torch.arange(129).unsqueeze(1) * torch.arange(256).double() * (2 * math.pi / 256)
        wanted = torch.cat((turns.cos(), -turns.sin())) * basis[0]
        return bool(torch.allclose(basis, wanted, atol=1e-5))

    def probabilities(self, samples: Waveform, state: SileroState | None) -> tuple[NDArray[np.float32], SileroState]:
        """Run one group.

        Parameters
        ----------
        samples
            (64 + n x 512,) float32: the context, then whole frames.
        state
            After the frames before; None at the beginning of a track.
        """
        windows = np.lib.stride_tricks.sliding_window_view(samples, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
        # A group is so small that handing parts of it to other threads takes three times as long as computing it, and
        # those threads are the encoder's.
        with torch.inference_mode(), one_thread():
            speech, after = self(torch.from_numpy(np.ascontiguousarray(windows)), state or SileroState.initial())
            values: NDArray[np.float32] = speech.numpy()
        return values, after


def _product(conv: nn.Conv1d, places: slice = slice(None), *, relu: bool = True) -> Product:
    """Lay a convolution's kernel out for a product of matrices: of rows of (kernel x C_in)."""
    assert conv.bias is not None
    return Product(conv.weight[:, :, places].transpose(1, 2).flatten(1), conv.bias, torch.float32, relu=relu)


class _Matrices:
    """The convolutions as products of matrices, time before channels, each with its ReLU.

    With four places in time, a library's convolutions and a transform by its basis take nearly twice as long; products
    by weights that are packed once take half as long as such by weights that are not.
    """

    def __init__(self, network: SileroNetwork) -> None:
        self._window = network.stft_conv.weight[0, 0]
        self._first, self._second = _product(network.conv1), _product(network.conv2)
        # The first place of the third, and the first and last of the fourth, see nothing but padding.
        self._third, self._fourth = _product(network.conv3, slice(1, 3)), _product(network.conv4, slice(1, 2))
        self._last = _product(network.final_conv, relu=False)

    def inside_frames(self, frames: Tensor) -> Tensor:
        """Map (T, 64 + 512) samples to (T, 128)."""
        count = len(frames)
        padded = functional.pad(frames, (0, 64), mode="reflect")
        magnitude = frames.new_zeros(count, 6, 129)  # one place of padding on either side
        spectrum = torch.fft.rfft(padded.unfold(1, 256, 128) * self._window)
        # A third of the time of `abs`, which minds numbers whose squares would be out of range.
        torch.sqrt(spectrum.real.square() + spectrum.imag.square(), out=magnitude[:, 1:5])
        seen = magnitude.as_strided((count, 4, 3 * 129), (6 * 129, 129, 1)).reshape(count * 4, 3 * 129)
        hidden = frames.new_zeros(count, 5, 128)  # one before, and none after, which a stride of two does not reach
        hidden[:, 1:] = self._first(seen).view(count, 4, 128)
        seen = hidden.as_strided((count, 2, 3 * 128), (5 * 128, 2 * 128, 1)).reshape(count * 2, 3 * 128)
        return self._fourth(self._third(self._second(seen).view(count, 2 * 64)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Map (T, 128) to (T,)."""
        return self._last(hidden).flatten()


@lru_cache(maxsize=1)
def load_silero() -> SileroNetwork:
    """Read the network from the installed package `silero-vad`, without running any code of it.

    Importing that package would set the whole process to one torch thread.

    Raises
    ------
    Unavailable
        If the package is not installed.
    CorruptArtifact
        If its weights are damaged or of another network.
    """
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        raise Unavailable(
            "the package silero-vad is not installed; install it, or set VOXDEX_SPEECH__DETECTOR=off to take all "
            "sound for speech"
        )
    path = Path(found.origin).parent / _MODEL
    try:
        with (
            warnings.catch_warnings()
        ):  # The format is deprecated, and the only one that the wheel has these weights in.
            warnings.simplefilter("ignore", DeprecationWarning)
            model: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            published = model.state_dict()
    except (RuntimeError, ValueError, OSError) as error:
        raise CorruptArtifact(f"{path}: no readable model ({one_line(error)[:160]}); {_REMEDY}") from error
    network = SileroNetwork()
    missing = sorted(name for name in _NAMES.values() if name not in published)
    if missing:
        raise CorruptArtifact(f"{path}: another network, without {missing[0]}; {_REMEDY}")
    try:
        network.load_state_dict({ours: published[theirs] for ours, theirs in _NAMES.items()})
    except RuntimeError as error:  # a shape differs
        raise CorruptArtifact(f"{path}: another network ({one_line(error)[:160]}); {_REMEDY}") from error
    if not network.is_fourier():
        raise CorruptArtifact(f"{path}: another network, whose first layer is no Fourier transform; {_REMEDY}")
    return network.requires_grad_(False).eval()
