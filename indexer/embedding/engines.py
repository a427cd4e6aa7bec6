"""Which implementation runs a network: by its kind, the precision asked for, and what the device is good at."""

import logging
import os
import platform
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from indexer.embedding import folded_campplus
from indexer.embedding.campplus import CamPlus, CamPlusConfig
from indexer.embedding.checkpoints import Checkpoint, NetworkConfig
from indexer.embedding.ecapa import Ecapa, EcapaConfig
from indexer.embedding.features import FrontEnd
from indexer.embedding.folded import FoldedEcapa, can_fold
from indexer.embedding.folded_campplus import FoldedCamPlus
from indexer.embedding.products import packs
from indexer.embedding.windows import Statistics
from indexer.types import Precision

LEAST_COSINE_FAST = 0.999
"""What fast vectors promise: their cosine to those of float32, as `indexer.types.Precision` states it."""

LEAST_COSINE_EXACT = 0.99999
"""What exact vectors promise, likewise."""

_BEST_PASS_S = 12.0
"""Audio in one pass of products on a CPU: what is between two of them stays in the cache, and more is slower (on two
cores with 1 MiB each, 12 s in a pass are 18 % faster than 40 s)."""

_WITHOUT_BFLOAT16 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"})
"""Values of ONEDNN_MAX_CPU_ISA with which oneDNN multiplies no bfloat16, or only emulates it."""

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network that is ready to run: features in, vectors out."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Map (B, F, T) features of one length, of which `valid` frames are speech, to (B, D) float32 vectors."""

    def with_frames(self, frames: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        """Return also the (B, C, T) frames that the vectors were pooled from."""

    def of_statistics(self, stretches: Statistics) -> Tensor:
        """Map statistics of stretches of those frames to (W, D) float32 vectors, all frames counting alike.

        Where the network pays more attention to some frames than to others these are not what it pools itself: they
        tell stretches of one utterance from each other, at a fraction of the cost.
        """


def settled_precision(wanted: Precision, network: NetworkConfig, device: torch.device) -> Precision:
    """Return the precision to make new vectors in: the one asked for, or exact where fast would gain nothing."""
    return "fast" if wanted == "fast" and runs_fast(network, device) else "exact"


def runs_fast(network: NetworkConfig, device: torch.device) -> bool:
    """Whether a network has an engine in bfloat16 and the device multiplies such numbers in hardware."""
    return isinstance(network, EcapaConfig) and can_fold(network) and multiplies_bfloat16(device)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    able = torch.cpu.get_capabilities()
    # The library that multiplies may be held to less than the processor has, and refuses then, or emulates.
    held = not torch.ops.mkldnn._is_mkldnn_bf16_supported() or _held_to() in _WITHOUT_BFLOAT16
    return bool(able.get("avx512_bf16") or able.get("amx_bf16")) and not held


def multiplies_bytes(device: torch.device) -> bool:
    """Whether a processor that multiplies bfloat16 is twice as quick at whole numbers of a byte, and sums them exactly.

    Where the instruction is missing the library adds products up in sixteen bits, which overflow.
    """
    if not (multiplies_bfloat16(device) and device.type == "cpu" and packs()):
        return False
    able = torch.cpu.get_capabilities()
    return able.get("architecture") == "x86_64" and bool(able.get("avx512_vnni") or able.get("amx_int8"))


def _held_to() -> str:
    """Return the instructions that the user holds the library to: as oneDNN reads it, empty where to none."""
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()


def make_engine(checkpoint: Checkpoint, precision: Precision, device: torch.device) -> Engine:
    """Put a network on a device.

    Vectors of precision "fast" may be made in float32, which keeps within the same bounds: so a gallery of them is
    searched and grows on any machine.
    """
    network = checkpoint.build_network().to(device)
    if precision == "fast":
        if runs_fast(checkpoint.network, device):
            fast = FoldedEcapa(cast(Ecapa, network), torch.bfloat16, coarser=multiplies_bytes(device))
            # Processors of one kind round alike, and were measured. Of other devices each is asked.
            if device.type == "cpu" or agrees(fast, network, checkpoint.network.bins, device, LEAST_COSINE_FAST):
                return fast
            _log.warning("products in bfloat16 on %s are not what fast vectors keep to: it runs in float32", device)
        else:
            _log.info("%s multiplies no bfloat16, or this network has no such engine: it runs in float32", device)
    if device.type in ("cpu", "cuda") and isinstance(checkpoint.network, EcapaConfig) and can_fold(checkpoint.network):
        exact = FoldedEcapa(cast(Ecapa, network), torch.float32)
        if device.type == "cpu" or agrees(exact, network, checkpoint.network.bins, device, LEAST_COSINE_EXACT):
            return exact
        _log.warning("products in float32 on %s are not what exact vectors keep to: it runs as published", device)
    if isinstance(checkpoint.network, CamPlusConfig) and folds_campplus(checkpoint.network, device):
        return FoldedCamPlus(cast(CamPlus, network))
    return network


def folds_campplus(network: CamPlusConfig, device: torch.device) -> bool:
    """Whether a CAM++ is folded on a device: on processors of the kind that its convolutions were measured on."""
    known = device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")
    return known and packs() and folded_campplus.can_fold(network)


def agrees(engine: Engine, network: Engine, bins: int, device: torch.device, least: float) -> bool:
    """Whether an engine gives the vectors of a network within so much of cosine, for two seconds of noise."""
    with torch.inference_mode():
        noise = torch.randn(2, bins, 200, generator=torch.Generator().manual_seed(0)).to(device)
        found = functional.cosine_similarity(engine(noise, 200).double(), network(noise, 200).double())
    return bool((found >= least).all())


def for_any_lengths(engine: Engine, front_end: FrontEnd, device: torch.device) -> FoldedEcapa | None:
    """Return the engine if utterances of several lengths are to share a pass: on a GPU, where each keeps its vector.

    On a processor passes of one utterance are large enough, and stay in its cache.
    """
    if device.type != "cuda" or not (isinstance(engine, FoldedEcapa) and front_end.takes_any_lengths):
        return None
    try:
        if keeps_vectors(engine, front_end, device):
            return engine
        _log.warning("utterances of several lengths share no pass on %s, for their vectors would change", device)
    except RuntimeError as error:
        _log.warning("utterances of several lengths share no pass on %s: %s", device, error)
    return None


def keeps_vectors(engine: FoldedEcapa, front_end: FrontEnd, device: torch.device) -> bool:
    """Whether noise of three lengths in one pass has the vectors that each has by itself, within what is promised."""
    samples = [16_000, 48_400, 24_123]
    with torch.inference_mode():
        noise = torch.randn(sum(samples), generator=torch.Generator().manual_seed(0)).mul_(0.1).to(device)
        together = engine.of_ragged(*front_end.of_ragged(noise, samples))
        apart = torch.cat([engine(*front_end(one.unsqueeze(0))) for one in torch.split(noise, samples)])
        found = functional.cosine_similarity(together.double(), apart.double())
    return bool((found >= (LEAST_COSINE_EXACT if engine.dtype == torch.float32 else LEAST_COSINE_FAST)).all())


def best_pass_s(engine: Engine, device: torch.device) -> float:
    """Most seconds of audio in one pass that an engine gains from."""
    folded = isinstance(engine, FoldedEcapa | FoldedCamPlus)
    return _BEST_PASS_S if device.type == "cpu" and folded else float("inf")
