"""Engines give the vectors of the network as it was published, within what their precision states, and say which."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.audio.decode import decode
from indexer.embedding.checkpoints import read_checkpoint
from indexer.embedding.ecapa import ConvShape, EcapaConfig
from indexer.embedding.encoder import SpeakerEncoder, encoder_id, load_encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.embedding.engines import agrees, make_engine, multiplies_bfloat16, multiplies_bytes, settled_precision
from indexer.embedding.folded import FoldedEcapa, can_fold
from indexer.embedding.products import ByteProduct
from indexer.embedding.registry import SPEECHBRAIN_ECAPA
from indexer.embedding.shares import GRID, Share
from indexer.embedding.windows import statistics_of
from indexer.errors import EncoderMismatch
from indexer.torch_threads import settle_threads, use_threads
from indexer.types import Precision, Waveform, precision_of, with_precision, without_precision
from search.calibration import default_calibration
from tests.network_kit import SMALL_CASCADE, trained

CASCADE = dataclasses.replace(SMALL_CASCADE, channels=16)
GROUPS = dataclasses.replace(CASCADE, middle="group", padding="zeros", gate_norm=True, embedding_sizes=(7, 5))
CPU = torch.device("cpu")
of_bytes = pytest.mark.skipif(not multiplies_bytes(CPU), reason="this processor multiplies no whole numbers of a byte")
TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # switching oneDNN off and on says so
@pytest.mark.parametrize("config", [CASCADE, GROUPS])
@pytest.mark.parametrize("packed", [True, False])
@torch.inference_mode()
def test_folding_changes_no_vector_nor_those_of_windows(config: EcapaConfig, packed: bool) -> None:
    network = trained(config)
    frames, valid = torch.randn(3, 8, 48), 41
    with torch.backends.mkldnn.flags(enabled=packed):  # type: ignore[no-untyped-call]
        folded = FoldedEcapa(network, torch.float32)
        vectors, kept = folded.with_frames(frames, valid)
        expected, frames_of_network = network.with_frames(frames, valid)
        torch.testing.assert_close(folded(frames, valid), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=1e-4)
        windows, expected = (
            one.of_statistics(statistics_of(some[0, :, :valid], [(0, 2400), (1600, 6400)], 160 * valid))
            for one, some in ((folded, kept), (network, frames_of_network))
        )
        torch.testing.assert_close(windows, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Change how many threads torch has, for one test."""
    before = settle_threads()
    yield use_threads
    use_threads(before)


@pytest.mark.parametrize("config", [CASCADE, GROUPS, dataclasses.replace(GROUPS, padding="reflect")])
@pytest.mark.parametrize(("count", "valid"), [(128, 128), (208, 193)])
@torch.inference_mode()
def test_threads_that_share_an_utterance_make_the_vector_of_one_thread(
    config: EcapaConfig, count: int, valid: int, threads: Callable[[int], None]
) -> None:
    folded = FoldedEcapa(trained(config), torch.float32)
    frames = torch.randn(1, 8, count)
    threads(1)
    alone, kept = folded.with_frames(frames, valid)
    threads(count // 64)
    torch.testing.assert_close(folded(frames, valid), alone, atol=1e-5, rtol=1e-5)
    shared, parts = folded.with_frames(frames, valid)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts[:, :, :valid], kept[:, :, :valid], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [CASCADE, GROUPS, dataclasses.replace(GROUPS, padding="reflect")])
@pytest.mark.parametrize("shares", [1, 2, 3])
@torch.inference_mode()
def test_rows_that_fill_the_grid_are_in_no_vector(
    config: EcapaConfig, shares: int, threads: Callable[[int], None]
) -> None:
    network = trained(config)
    folded = FoldedEcapa(network, torch.float32)
    rows: set[int] = set()
    threads(shares)
    for count in range(64 * shares, 64 * shares + 2 * GRID * shares):
        for valid in (count, count - 5):
            frames = torch.randn(1, 8, count)
            expected, of_network = network.with_frames(frames, valid)
            vector, kept = folded.with_frames(frames, valid)
            torch.testing.assert_close(folded(frames, valid), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(vector, expected, atol=1e-4, rtol=1e-4)
            assert kept.shape == of_network.shape
            share = Share(0, count, count, valid, grid=GRID)
            rows.add(folded._trunk(frames.transpose(1, 2), share).shape[1])
    assert all(count % GRID == 0 for count in rows)
    assert len(rows) == 2 * shares + 1  # so few products to compile, for 2 * GRID * shares lengths


@pytest.mark.parametrize("sharpness", [1.0, 300.0])
@torch.inference_mode()
def test_attention_of_any_sharpness_over_many_frames_is_folded(sharpness: float) -> None:
    network = trained(CASCADE)
    network.pooling.get_submodule("score").get_parameter("weight").mul_(sharpness)
    frames, valid = torch.randn(2, 8, 600), 600
    folded = FoldedEcapa(network, torch.float32)
    torch.testing.assert_close(folded(frames, valid), network(frames, valid), atol=1e-4, rtol=1e-4)


@of_bytes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_product_of_bytes_rounds_each_row_by_itself(dtype: torch.dtype) -> None:
    weight, bias = torch.randn(40, 96), torch.randn(40)
    rows = (torch.randn(700, 96) * torch.logspace(-1, 3, 700)[:, None]).to(dtype)
    rows[5] = 0.0
    expected = (rows.float() @ weight.T + bias).relu_()
    product = ByteProduct(weight, bias)
    made = product(torch.split(rows, [32, 64], dim=1))
    assert made.dtype == dtype
    # Steps of both factors, by chance up and down in 96 sums; a range for all rows would leave nothing of the first.
    tolerance = 0.08 * rows.float().abs().amax(dim=1) * weight.abs().amax() + 0.02
    assert ((made.float() - expected).abs().amax(dim=1) < tolerance).all()
    torch.testing.assert_close(made[5], bias.relu().to(dtype))
    for first, last in ((0, 1), (255, 257), (300, 700)):
        alone = product(torch.split(rows[first:last], [32, 64], dim=1))
        torch.testing.assert_close(alone, made[first:last], atol=0.0, rtol=0.0)


@of_bytes
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@torch.inference_mode()
def test_what_is_no_number_makes_no_number_of_bytes(bad: float) -> None:
    rows = torch.randn(3, 16)
    rows[1, 4] = bad
    made = ByteProduct(torch.randn(8, 16), torch.randn(8))([rows])
    assert made.isfinite().all(dim=1).tolist() == [True, False, True]


@of_bytes
@pytest.mark.parametrize("config", [CASCADE, GROUPS])
@torch.inference_mode()
def test_utterances_of_two_seconds_are_of_bytes_however_they_are_embedded(
    config: EcapaConfig, threads: Callable[[int], None]
) -> None:
    network = trained(config)
    plain = FoldedEcapa(network, torch.bfloat16)
    folded = FoldedEcapa(network, torch.bfloat16, coarser=True)
    for count, valid, is_of_bytes in ((240, 199, False), (240, 200, True), (403, 403, True)):
        frames = torch.randn(2, 8, count)
        together = folded(frames, valid)
        threads(1)
        alone = torch.cat([folded(one, valid) for one in torch.split(frames, 1)])
        threads(2)
        shared = torch.cat([folded(one, valid) for one in torch.split(frames, 1)])
        expected = network(frames, valid)
        for made in (together, alone, shared):
            assert torch.cosine_similarity(made, expected).min() > 0.999
        torch.testing.assert_close(together, alone, atol=1e-2, rtol=1e-2)
        torch.testing.assert_close(shared, alone, atol=1e-2, rtol=1e-2)
        assert torch.equal(together, plain(frames, valid)) is not is_of_bytes


@pytest.mark.parametrize("isa", ["avx2", "AVX512_CORE"])
def test_a_library_that_is_held_to_less_is_not_asked_for_bfloat16_or_bytes(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    assert not multiplies_bfloat16(CPU)
    assert not multiplies_bytes(CPU)


def test_what_cannot_be_folded_runs_as_it_was_published() -> None:
    assert not can_fold(dataclasses.replace(CASCADE, pooling="xvector"))
    assert not can_fold(dataclasses.replace(CASCADE, stem=ConvShape(4, 1)))
    checkpoint = read_checkpoint(TINY, "nemo")
    plain = dataclasses.replace(checkpoint.network, pooling="tap")
    assert settled_precision("fast", plain, CPU) == "exact"


def test_the_id_says_the_precision_and_new_vectors_are_exact_where_fast_gains_nothing() -> None:
    assert encoder_id("ab" * 32, "nemo-legacy", "fast") == "abababababababab-nemo-legacy-fast"
    fast = with_precision(encoder_id("ab" * 32, "kaldi"), "fast")
    assert (precision_of(fast), without_precision(fast)) == ("fast", "abababababababab-kaldi")
    assert with_precision(fast, "exact") == without_precision(fast)
    network = read_checkpoint(TINY, "nemo").network
    assert settled_precision("fast", network, torch.device("mps")) == "exact"
    able = multiplies_bfloat16(CPU)
    chosen = load_encoder(TINY, name="tiny", family="nemo", device="cpu", precision="fast", or_exact=True)
    assert precision_of(chosen.id) == ("fast" if able else "exact")


def test_fast_vectors_that_were_made_elsewhere_are_found_on_any_machine() -> None:
    asked = load_encoder(TINY, name="tiny", family="nemo", device="cpu", precision="fast")
    assert precision_of(asked.id) == "fast"
    engine = make_engine(read_checkpoint(TINY, "nemo"), "fast", CPU)
    assert isinstance(engine, FoldedEcapa)


def test_a_processor_whose_matrix_library_is_held_to_less_runs_fast_in_float32() -> None:
    code = (
        "import sys, torch; from pathlib import Path; from indexer.embedding.encoder import load_encoder;"
        "encoder = load_encoder(Path(sys.argv[1]), name='tiny', family='nemo', device='cpu', precision='fast');"
        "print(encoder.embed([torch.randn(16000).numpy()]).shape)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(TINY)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == "(1, 32)", ran.stderr


def test_an_engine_that_gives_other_vectors_is_told_before_it_serves() -> None:
    network = trained(CASCADE)
    assert agrees(FoldedEcapa(network, torch.float32), network, CASCADE.bins, CPU, 0.99999)
    assert not agrees(FoldedEcapa(trained(GROUPS), torch.float32), network, CASCADE.bins, CPU, 0.9)


def test_one_network_in_two_precisions_is_no_pair_to_fuse() -> None:
    pair = [load_encoder(TINY, name="tiny", family="nemo", device="cpu", precision=one) for one in ("exact", "fast")]  # type: ignore[arg-type]
    with pytest.raises(EncoderMismatch, match="two different ones"):
        EncoderSet(*pair)


def test_the_shipped_calibration_is_of_both_precisions() -> None:
    assert SPEECHBRAIN_ECAPA.sha256 is not None
    exact = encoder_id(SPEECHBRAIN_ECAPA.sha256, "speechbrain")
    found = default_calibration((exact,))
    assert found is not None
    assert default_calibration((with_precision(exact, "fast"),)) == found


@pytest.fixture(scope="module")
def utterances(speech_dir: Path) -> list[Waveform]:
    """Real speech of every kind: the beginning of the largest recording of each set; of one set, a word of a second."""
    sets = ("an4", "librispeech_multi", "librispeech_testother", "speech_commands", "telephony_8k")
    files = [max((speech_dir / name).rglob("*.*"), key=lambda path: path.stat().st_size) for name in sets]
    return [decode(path).waveforms[0, :48_000] for path in files]


@pytest.mark.real_weights
@pytest.mark.real_speech
def test_real_speech_gives_the_vectors_of_float32_within_what_each_precision_states(
    default_weights: Path, utterances: list[Waveform]
) -> None:
    checkpoint = read_checkpoint(default_weights, "speechbrain")
    network, front_end = checkpoint.build_network(), checkpoint.build_front_end()
    with torch.inference_mode():
        features = [front_end(torch.from_numpy(waveform)[None]) for waveform in utterances]
        truth = np.concatenate([network(one.values, one.valid).numpy() for one in features]).astype(np.float64)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    kinds: tuple[tuple[Precision, float, float], ...] = (("exact", 0.99999, 1e-5), ("fast", 0.999, 1e-4))
    for precision, least, tolerance in kinds:
        encoder = SpeakerEncoder(checkpoint, name="default", device="cpu", precision=precision)
        alone = np.concatenate([encoder.embed([one]) for one in utterances]).astype(np.float64)
        assert (alone * truth).sum(axis=1).min() >= least
        # The same utterance among others of its length, in every place of a batch.
        mates = [np.roll(utterances[1], shift) for shift in (0, 9_999, 20_000)]
        together = encoder.embed([mates[1], utterances[1], mates[2], mates[1]]).astype(np.float64)
        assert 1.0 - float(together[1] @ alone[1]) <= tolerance
