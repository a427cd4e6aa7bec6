"""Other ways to run the same weights, each as its makers say; what is not installed is named as that.

Only this measurement touches their libraries: the product does not.
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.errors import InvalidRequest, Unavailable
from indexer.types import Vectors, Waveform

if TYPE_CHECKING:
    from torch import Tensor, nn

    from indexer.embedding.checkpoints import Checkpoint

Embed = Callable[[Sequence[Waveform]], Vectors]


def open_peer(name: str, checkpoint: "Checkpoint", weights: Path, threads: int) -> tuple[Embed, str]:
    """Prepare a peer on a checkpoint; return what embeds waveforms of one length, and the library's version.

    Raises
    ------
    Unavailable
        If its library is not installed, or it has no way to run this network.
    """
    make, library = PEERS[name]
    try:
        return make(checkpoint, weights, threads), version(library)
    except (ImportError, PackageNotFoundError) as error:
        raise Unavailable(f"not installed ({error}); the extra `bench` has it") from error


def peer_names(wanted: str) -> tuple[str, ...]:
    """Return the peers that a list of beginnings of names means; "all" means all.

    Raises
    ------
    InvalidRequest
        If one means none.
    """
    if wanted == "all":
        return tuple(PEERS)
    chosen = []
    for word in wanted.split(","):
        found = [name for name in PEERS if name.lower().startswith(word.strip().lower())]
        if not found or not word.strip():
            raise InvalidRequest(f"peer {word.strip()!r}: give all, or beginnings of {', '.join(PEERS)}")
        chosen += found
    return tuple(dict.fromkeys(chosen))


def _speechbrain(checkpoint: "Checkpoint", weights: Path, threads: int) -> Embed:
    """`EncoderClassifier.encode_batch` of SpeechBrain, put together as the recipe of these weights does."""
    if checkpoint.family != "speechbrain":
        raise Unavailable("runs weights of SpeechBrain only")
    import torch
    from speechbrain.inference.speaker import EncoderClassifier
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    network = ECAPA_TDNN(
        input_size=80,
        channels=[1024, 1024, 1024, 1024, 3072],
        kernel_sizes=[5, 3, 3, 3, 1],
        dilations=[1, 2, 3, 4, 1],
        attention_channels=128,
        lin_neurons=192,
    )
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    modules = {
        "compute_features": Fbank(n_mels=80),
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": network.eval(),
        "classifier": torch.nn.Identity(),
    }
    classifier = EncoderClassifier(modules=modules, hparams={"label_encoder": None}, run_opts={"device": "cpu"}).eval()

    def embed(waveforms: Sequence[Waveform]) -> Vectors:
        with torch.inference_mode():
            vectors: Vectors = classifier.encode_batch(torch.from_numpy(np.stack(waveforms)))[:, 0].numpy()
            return vectors

    return embed


def _onnx_runtime(checkpoint: "Checkpoint", weights: Path, threads: int) -> Embed:
    import onnxruntime
    import torch

    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="voxdex-bench-") as folder:
        warnings.simplefilter("ignore")
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            _whole(checkpoint),
            (torch.zeros(1, checkpoint.network.bins, 300),),
            file,
            input_names=["frames"],
            dynamic_axes={"frames": {0: "batch", 2: "time"}},
            dynamo=False,
        )
        graph = file.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return _behind_features(checkpoint, lambda frames: session.run(None, {"frames": frames})[0])


def _openvino(precision: str) -> Callable[["Checkpoint", Path, int], Embed]:
    def make(checkpoint: "Checkpoint", weights: Path, threads: int) -> Embed:
        import openvino
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = openvino.PartialShape([-1, checkpoint.network.bins, -1])
            example = torch.zeros(1, checkpoint.network.bins, 300)
            model = openvino.convert_model(_whole(checkpoint), example_input=example, input=[shape])
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return _behind_features(checkpoint, lambda frames: request.infer([frames])[0])

    return make


def _behind_features(checkpoint: "Checkpoint", run: Callable[[Any], Any]) -> Embed:
    """Let a runner of networks embed waveforms: the features before it are ours."""
    import torch

    front_end = checkpoint.build_front_end()

    def embed(waveforms: Sequence[Waveform]) -> Vectors:
        with torch.inference_mode():
            frames = front_end(torch.from_numpy(np.stack(waveforms))).values
        return np.asarray(run(frames.contiguous().numpy()), dtype=np.float32)

    return embed


def _whole(checkpoint: "Checkpoint") -> "nn.Module":
    """Return the network as it was published, for frames that are all speech."""
    import torch

    class Whole(torch.nn.Module):
        """Calls the network with every frame valid."""

        def __init__(self) -> None:
            super().__init__()
            self.network = checkpoint.build_network()

        def forward(self, frames: "Tensor") -> "Tensor":
            """Map (B, F, T) features to (B, D) vectors."""
            vectors: Tensor = self.network(frames, frames.shape[2])
            return vectors

    if checkpoint.front_end_config.__class__.__name__ == "NemoFrontEndConfig":
        raise Unavailable("features of NeMo are padded, which it is not told of")
    return Whole().eval()


PEERS: dict[str, tuple[Callable[["Checkpoint", Path, int], Embed], str]] = {
    "SpeechBrain": (_speechbrain, "speechbrain"),
    "ONNX Runtime": (_onnx_runtime, "onnxruntime"),
    "OpenVINO float32": (_openvino("f32"), "openvino"),
    "OpenVINO bfloat16": (_openvino("bf16"), "openvino"),
}
"""Peers by name: how each is made, and the library whose version is reported."""
