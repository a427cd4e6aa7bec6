"""Ways to run the network, each in a process of its own as its users have it: none runs on another's settings.

Ours tells the allocator to keep memory and OpenMP to sleep early, which hold for all of a process; so do others'.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from api.bench.encoder_peers import PEERS, Embed, open_peer
from indexer.errors import Unavailable, VoxdexError, one_line
from indexer.openmp import default_waiting, share_cores
from indexer.settings import Settings
from indexer.types import Vectors, Waveform

if TYPE_CHECKING:
    from indexer.embedding.checkpoints import Checkpoint

PUBLISHED = "PyTorch float32"
"""The network as it was published, which cosines are to."""

EXACT, FAST = "voxdex exact", "voxdex fast"
IN_BFLOAT16 = ("PyTorch autocast", FAST)
"""Run where the processor multiplies bfloat16."""

_TURN_S = 0.2
"""What a turn measures at least, so that short passes are not all first ones after somebody else's turn."""


class EngineApart:
    """One way to run the network, which embeds when it is told to.

    Parameters
    ----------
    name : str
        `PUBLISHED`, one of `EXACT`, `FAST`, `IN_BFLOAT16`, or a peer.
    settings : Settings
        Of our own encoder.
    encoder : str, optional
        Its name; None means the setting.
    threads : int
        Of peers that ask how many to use.

    Raises
    ------
    Unavailable
        If it cannot run: a library is not installed, say.
    """

    def __init__(self, name: str, settings: Settings, encoder: str | None, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, settings, encoder, threads), daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0
        theirs.close()
        try:
            self.name = f"{name} {self._answer()}".strip()
        except Unavailable:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Nothing more than the object."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """End its process."""
        self.close()

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances one at a time."""
        vectors: Vectors = self._ask("embed", list(waveforms))
        return vectors

    def take(self, waveforms: Sequence[Waveform]) -> None:
        """Hand over the batch that turns are about, and let it be embedded once."""
        self._ask("take", list(waveforms))

    def turn(self) -> list[float]:
        """Seconds of each pass over the batch in one turn, after a pass over its first utterance."""
        seconds: list[float] = self._ask("turn", None)
        return seconds

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _ask(self, what: str, of: object) -> Any:
        return self._answer((what, of))

    def _answer(self, question: tuple[str, object] | None = None) -> Any:
        try:
            if question is not None:
                self._connection.send(question)
            error, answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise Unavailable(f"its process ended with exit status {self._process.exitcode}") from None
        if error:
            raise Unavailable(error)
        return answer


def _serve(connection: Connection, name: str, settings: Settings, encoder: str | None, threads: int) -> None:
    """Make the engine and answer what is asked, until nobody asks any more."""
    (share_cores if name in (EXACT, FAST) else default_waiting)()  # before torch is loaded
    try:
        embed, found = _open(name, settings, encoder, threads)
    except VoxdexError as error:
        connection.send((one_line(error), None))
        return
    connection.send(("", found))
    batch: list[Waveform] = []
    while True:
        try:
            what, waveforms = connection.recv()
        except EOFError:
            return
        if what == "embed":
            connection.send(("", np.concatenate([embed([waveform]) for waveform in waveforms])))
        elif what == "take":
            batch = waveforms
            embed(batch)
            connection.send(("", None))
        else:
            connection.send(("", _turn(embed, batch)))


def _turn(embed: Embed, batch: Sequence[Waveform]) -> list[float]:
    embed(batch[:1])
    taken: list[float] = []
    while sum(taken) < _TURN_S:
        started = time.perf_counter()
        embed(batch)
        taken.append(time.perf_counter() - started)
    return taken


def _open(name: str, settings: Settings, encoder: str | None, threads: int) -> tuple[Embed, str]:
    """Return what embeds waveforms of one length, and the version of a peer."""
    import torch

    from api.dependencies import Services
    from indexer.embedding.checkpoints import read_checkpoint

    services = Services(settings)
    if name in (EXACT, FAST):
        own, _ = services.encoders.load(encoder, precision="fast" if name == FAST else "exact")
        return own.embed, ""
    spec = services.registry.get(encoder or settings.embedding.encoder)
    weights: Path = services.registry.pull(spec)
    checkpoint = read_checkpoint(weights, spec.family, spec.front_end)
    torch.set_num_threads(threads)
    if name in PEERS:
        return open_peer(name, checkpoint, weights, threads)
    return _published(checkpoint, automatic=name != PUBLISHED), ""


def _published(checkpoint: "Checkpoint", *, automatic: bool) -> Callable[[Sequence[Waveform]], Vectors]:
    """Run the network as it was published, in bfloat16 where torch's autocast thinks that well."""
    import torch

    front_end, network = checkpoint.build_front_end(), checkpoint.build_network()

    def embed(waveforms: Sequence[Waveform]) -> Vectors:
        with torch.inference_mode():
            frames = front_end(torch.from_numpy(np.stack(waveforms)))
            with torch.autocast("cpu", torch.bfloat16, enabled=automatic):
                vectors: Vectors = network(frames.values, frames.valid).float().numpy()
            return vectors

    return embed
