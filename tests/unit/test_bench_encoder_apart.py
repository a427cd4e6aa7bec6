"""Engines that are measured run in processes of their own, which answer, refuse or end, and say why."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from api.bench.encoder_apart import EXACT, EngineApart
from indexer.embedding.encoder import load_encoder
from indexer.errors import Unavailable
from indexer.openmp import SPIN_COUNT, default_waiting, share_cores
from indexer.settings import load_settings

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


def test_an_engine_in_its_own_process_gives_vectors_and_times_until_that_ends() -> None:
    rng = np.random.default_rng(1)
    utterances = [rng.normal(0, 0.1, 8_000).astype(np.float32) for _ in range(3)]
    with EngineApart(EXACT, load_settings(), str(TINY), threads=1) as engine:
        assert engine.name == EXACT
        ours = load_encoder(TINY, name="tiny", family="nemo", device="cpu")
        np.testing.assert_allclose(engine.embed(utterances), ours.embed(utterances), atol=1e-5)
        engine.take(utterances[:2])
        taken = engine.turn()
        assert sum(taken) >= 0.2
        assert all(seconds > 0 for seconds in taken)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match=r"its process ended with exit status -9"):
            engine.turn()


def test_a_peer_that_cannot_run_this_network_says_why() -> None:
    with pytest.raises(Unavailable, match="weights of SpeechBrain only"):
        EngineApart("SpeechBrain", load_settings(), str(TINY), threads=1)


def test_peers_wait_as_they_do_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == str(SPIN_COUNT)
    default_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")  # a user's
    default_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
