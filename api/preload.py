"""Loads the default encoder and opens every gallery while the service already answers."""

import logging
import threading
from collections.abc import Callable

import numpy as np

from indexer.embedding.encoder import Encoder
from indexer.errors import VoxdexError
from indexer.types import SAMPLE_RATE_HZ, EncoderId

logger = logging.getLogger(__name__)

LOADING = "loading"

_AGAIN_S = 10.0
"""Before the second try; what fails is the network that the weights come from, or a worker that is not up yet."""

_AGAIN_MOST_S = 120.0
"""Each wait is twice the one before, up to this."""

_CLOSE_S = 5.0


class Preload:
    """A thread that does what nobody's request should be the first to wait for.

    Attributes
    ----------
    encoder_id
        None until the encoder is loaded.
    encoder_problem
        `loading`, or the code of the error that the last try ended with; None when loaded.
    galleries_problem
        The same about the galleries' indexes.
    """

    def __init__(
        self, load_encoder: Callable[[], Encoder], open_galleries: Callable[[], None], *, again_s: float = _AGAIN_S
    ) -> None:
        self._again_s = again_s
        self.encoder_id: EncoderId | None = None
        self.encoder_problem: str | None = LOADING
        self.galleries_problem: str | None = LOADING
        self._load_encoder = load_encoder
        self._open_galleries = open_galleries
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preload", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Try no more; a load under way is waited for a little, and a download under way dies with the process."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            if self.encoder_problem is not None:
                self.encoder_problem = self._tried(self._encoder)
            if self.galleries_problem is not None:
                self.galleries_problem = self._tried(self._open_galleries)
            if self.encoder_problem is None and self.galleries_problem is None:
                return
            self._closed.wait(self._again_s)
            self._again_s = min(2 * self._again_s, _AGAIN_MOST_S)

    def _tried(self, step: Callable[[], None]) -> str | None:
        try:
            step()
        except Exception as error:  # Whatever it is, somebody has to hear of it, and it may be gone the next time.
            code = error.code if isinstance(error, VoxdexError) else "internal"
            logger.warning("the service is not ready: %s; trying again in %g s", code, self._again_s, exc_info=error)
            return code
        return None

    def _encoder(self) -> None:
        encoder = self._load_encoder()
        # One pass: the first one compiles, and takes several times as long as those that follow.
        encoder.embed([np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)])
        self.encoder_id = encoder.id
        logger.info("the default encoder is loaded", extra={"encoder_id": encoder.id})
