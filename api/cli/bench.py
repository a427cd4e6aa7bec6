"""`voxdex bench`: how fast this machine embeds, and what the vector index does on it."""

from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import options
from api.cli.output import EXIT_SOME_FAILED, print_json, print_notice
from api.cli.progress import waiting
from indexer.errors import InvalidRequest
from indexer.interrupts import terminated_as_interrupted

if TYPE_CHECKING:
    from api.bench.vector_sets import VectorSet
    from indexer.index.base import VectorIndex
    from indexer.types import Vectors

bench = typer.Typer(invoke_without_command=True)

_MOST_VECTORS = 1_000_000_000
_LEAST_VECTORS = 1000
_VECTOR_KB = 2.5
"""Disk that vectors and an index of them take while it is built."""

measuring = partial(waiting, "measuring", times_a_second=2)
"""A sign of life that takes next to nothing from what is measured."""


class VectorKind(Enum):
    """What is searched."""

    clustered = "clustered"
    jittered = "jittered"


class Engine(Enum):
    """What searches."""

    faiss = "faiss"
    faiss_gpu = "faiss-gpu"
    milvus = "milvus"


@bench.callback()
def embedding(
    context: typer.Context,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Time given to each measurement.", min=0.5, max=600)
    ] = 8.0,
    encoder: options.Encoder = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Measure this machine: encoder and ingest as multiples of real time, beside the machine's own matrix rate."""
    context.with_resource(terminated_as_interrupted())
    if context.invoked_subcommand is not None:
        return
    from api.bench.encoder_bench import print_bench, run_bench
    from api.dependencies import open_services

    with measuring(quiet=as_json), open_services(home=home) as services:
        report = run_bench(services, encoder=encoder, budget_s=seconds)
    if as_json:
        print_json(report)
    else:
        print_bench(report)


@bench.command("encoder")
def encoder(
    speech: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Recordings, or folders of them, whose beginnings are embedded (default: noise).",
            readable=False,
            show_default=False,
        ),
    ] = None,
    lengths: Annotated[str, typer.Option("--lengths", help="Seconds of an utterance, with commas between.")] = "3,10",
    batches: Annotated[str, typer.Option("--batches", help="Utterances of a pass, with commas between.")] = "1,8",
    utterances: Annotated[
        int, typer.Option("--utterances", help="Most utterances that cosines are compared on.", min=1)
    ] = 64,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            help="Other ways to run the same weights: all, or the beginnings of their names (SpeechBrain, ONNX, "
            "OpenVINO) with commas between them.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Time given to each length and batch.", min=0.1, max=600)
    ] = 10.0,
    encoder: options.Encoder = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Measure the encoder by engine, precision, length and batch, beside peers and the machine's own matrix rates."""
    from api.bench.encoder_engines import print_engine_bench, run_engine_bench
    from api.bench.encoder_peers import peer_names
    from api.dependencies import open_services

    with measuring(quiet=as_json), open_services(home=home) as services:
        report = run_engine_bench(
            services,
            encoder=encoder,
            speech=speech or (),
            lengths_s=_numbers(lengths, "--lengths", 0.5, 60.0),
            batches=_whole_numbers(batches, "--batches", 256),
            utterances=utterances,
            peers=peer_names(peers) if peers is not None else (),
            budget_s=seconds,
        )
    if as_json:
        print_json(report)
    else:
        print_engine_bench(report)


@bench.command("ingest")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Recordings, or folders of them.", readable=False)],
    files: Annotated[int, typer.Option("--files", help="Most recordings, taken at even steps over all.", min=1)] = 500,
    encoder: options.Encoder = None,
    speakers: options.Speakers = None,
    speech: options.Speech = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Measure ingest end to end, stage by stage, beside the encoder alone with utterances of the same lengths."""
    from api.bench.ingest_bench import print_ingest_bench, run_ingest_bench
    from api.dependencies import open_services

    options.check_speakers(speakers)
    with measuring(quiet=as_json), open_services(home=home) as services:
        figures = run_ingest_bench(services, paths, files=files, encoder=encoder, speakers=speakers, speech=speech)
    if as_json:
        print_json(figures)
    else:
        print_ingest_bench(figures)


@bench.command("api")
def api(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings of at least twice --probe-s, or folders of them.", readable=False)
    ],
    clients: Annotated[
        str, typer.Option("--clients", help="How many ask at once, with commas between them.")
    ] = "1,2,4,8,16",
    probe_s: Annotated[float, typer.Option("--probe-s", help="Length of a probe.", min=0.5, max=60)] = 3.0,
    speakers: Annotated[int, typer.Option("--speakers", help="Most recordings that are enrolled.", min=1)] = 32,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            help="Time given to each number of clients, and as much to the encoder alone.",
            min=0.5,
            max=600,
        ),
    ] = 10.0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Measure the service: how long an identification takes by how many ask at once, beside the encoder alone."""
    from api.bench.api_bench import print_api_bench, run_api_bench
    from api.dependencies import open_services

    with measuring(quiet=as_json), open_services(home=home) as services:
        figures = run_api_bench(
            services,
            paths,
            clients=_whole_numbers(clients, "--clients", 1024),
            probe_s=probe_s,
            speakers=speakers,
            seconds=seconds,
        )
    if as_json:
        print_json(figures)
    else:
        print_api_bench(figures)


@bench.command("index")
def index(
    vectors: Annotated[
        str, typer.Option("--vectors", help="Sizes to measure, with commas between them.")
    ] = "100000,1000000",
    kind: Annotated[
        VectorKind,
        typer.Option(
            "--set",
            help="Synthetic voices of ten utterances each, or real embeddings jittered to size.",
            case_sensitive=False,
        ),
    ] = VectorKind.clustered,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            readable=False,
            help="The real embeddings: a file of `voxdex embed --output`.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", "-g", help="The real embeddings: those of this gallery.", show_default=False),
    ] = None,
    engine: Annotated[Engine, typer.Option("--engine", help="Engine under test.")] = Engine.faiss,
    device: Annotated[
        str, typer.Option("--device", help="Where engine faiss-gpu scans: cuda, cuda:N, or cpu to try the same code.")
    ] = "cuda",
    device_vectors: Annotated[
        str,
        typer.Option(
            "--device-vectors",
            help="Sizes at which the scan of engine faiss-gpu is measured alone, in float16 on the device; 0: leave it "
            "out.",
        ),
    ] = "10000000,100000000",
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            help="Other engines to measure on the same vectors: all, or the beginnings of their names (faiss, usearch, "
            "hnswlib, milvus) with commas between them.",
            show_default=False,
        ),
    ] = None,
    peers_up_to: Annotated[
        int, typer.Option("--peers-up-to", help="Vectors above which no peer is built.", min=1)
    ] = 1_000_000,
    peer_limit_s: Annotated[
        float, typer.Option("--peer-limit-s", help="Longest that one peer may take.", min=1)
    ] = 900.0,
    enrolled: Annotated[
        int, typer.Option("--enrolled", help="Enrolled vectors among which to identify; 0: leave it out.", min=0)
    ] = 0,
    probes: Annotated[int, typer.Option("--probes", help="Probes of each kind.", min=10, max=10_000)] = 500,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Time given to each comparison of times.", min=0.1, max=600)
    ] = 8.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of vectors and probes.", min=0)] = 20260101,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            readable=False,
            help=f"Where vectors and indexes are put meanwhile: {_VECTOR_KB} kB a vector (default: the system's own).",
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Measure the vector index: recall, times beside an exhaustive scan, memory, filters, deletions, and peers."""
    from api.bench.index_bench import Wanted, run_index_bench
    from api.bench.index_report import growth, judged, print_report
    from api.bench.peers import peer_names

    on_device = _on_device(device, device_vectors) if engine is Engine.faiss_gpu else ()
    wanted = Wanted(
        sizes=_sizes(vectors),
        engine=engine.value,
        seed=seed,
        probes=probes,
        budget_s=seconds,
        peers=peer_names(peers) if peers is not None else (),
        peers_up_to=peers_up_to,
        peer_limit_s=peer_limit_s,
        enrolled=enrolled,
        device=device,
        device_vectors=on_device,
    )
    if folder is not None and not folder.is_dir():
        raise InvalidRequest(f"{folder}: no folder; make it, or choose another --folder")
    source = _source(kind, embeddings, gallery, home, seed)
    report = run_index_bench(wanted, source, folder, say=print_notice)
    if as_json:
        print_json({**asdict(report), "asked": list(judged(report)), "growth": growth(report)})
    else:
        print_report(report)
    if any("problem" in size for size in report.sizes):
        raise typer.Exit(EXIT_SOME_FAILED)


def _whole_numbers(text: str, option: str, most: int) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(1 <= number <= most for number in numbers):
        raise InvalidRequest(
            f"{option} {text!r}: give whole numbers from 1 to {most} with commas between, as in 1,4,16"
        )
    return numbers


def _on_device(device: str, text: str) -> tuple[int, ...]:
    """Return the sizes that are measured on a device, which must be there."""
    from api.bench.device_scan import require_device

    require_device(device)
    return () if text == "0" else _sizes(text, "--device-vectors")


def _numbers(text: str, option: str, least: float, most: float) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(least <= number <= most for number in numbers):
        raise InvalidRequest(f"{option} {text!r}: give numbers from {least:g} to {most:g} with commas between them")
    return numbers


def _sizes(text: str, option: str = "--vectors") -> tuple[int, ...]:
    try:
        sizes = tuple(int(word.replace("_", "")) for word in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(_LEAST_VECTORS <= size <= _MOST_VECTORS for size in sizes):
        raise InvalidRequest(
            f"{option} {text!r}: give numbers from {_LEAST_VECTORS:,} to {_MOST_VECTORS:,} with commas between, as in "
            f"100000,1000000; a vector takes {_VECTOR_KB} kB of disk meanwhile, the most of them "
            f"{_MOST_VECTORS * _VECTOR_KB / 1e9:,.1f} TB"
        )
    return sizes


def _source(
    kind: VectorKind, embeddings: Path | None, gallery: str | None, home: Path | None, seed: int
) -> "VectorSet":
    from api.bench.vector_sets import ClusteredVoices, JitteredEmbeddings, read_embeddings

    if kind is VectorKind.clustered:
        if embeddings is not None or gallery is not None:
            raise InvalidRequest("--embeddings and --gallery name what is jittered: add --set jittered")
        return ClusteredVoices(seed)
    if (embeddings is None) == (gallery is None):
        raise InvalidRequest("--set jittered needs real embeddings: give either --embeddings or --gallery")
    if embeddings is not None:
        return JitteredEmbeddings(read_embeddings(embeddings), embeddings.name, seed)
    from api.dependencies import open_services

    assert gallery is not None
    with open_services(home=home) as services:
        return JitteredEmbeddings(_vectors_of(services.indexes.open(gallery)), f"gallery {gallery}", seed)


def _vectors_of(opened: "VectorIndex") -> "Vectors":
    return opened.reconstruct(opened.ids())
