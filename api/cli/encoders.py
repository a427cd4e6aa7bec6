"""`voxdex encoder`: which networks there are, and their weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli import options
from api.cli.output import print_json, print_line, print_table
from api.cli.progress import waiting

encoder = typer.Typer(help="List, fetch, show and add encoders.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="Name of the encoder, or path of a .nemo file.", show_default=False)]


@encoder.command("list")
def list_encoders(home: options.Home = None, as_json: options.Json = False) -> None:
    """List the encoders that voxdex knows, what each costs and how often it errs, and whether its weights are here."""
    from api.dependencies import settings_of
    from indexer.embedding.registry import make_registry

    settings = settings_of(home=home)
    registry = make_registry(settings)
    rows = [{**_document(spec), "cached": registry.cached(spec) is not None} for spec in registry.list()]
    if as_json:
        print_json({"default": settings.embedding.encoder, "encoders": rows})
        return
    print_table(
        ["encoder", "MB", "x real time", "published EER", "measured EER (%)", "license", "here"],
        [
            [
                row["name"] + (" (default)" if row["name"] == settings.embedding.encoder else ""),
                f"{row['size_bytes'] / 1e6:.0f}" if row["size_bytes"] else "",
                f"{row['times_real_time']:.0f}" if row["times_real_time"] else "",
                row["published_eer"],
                ", ".join(f"{kind} {rate:.1f}" for kind, rate in row["measured_eer"].items()),
                row["license"],
                "yes" if row["cached"] else "no",
            ]
            for row in rows
        ],
    )
    print_line("x real time: of one CPU core. measured EER: what docs/encoders.md says; measure on your own speech.")


@encoder.command("pull")
def pull(
    name: Annotated[
        str | None, typer.Argument(help="Name of the encoder (default: the default one).", show_default=False)
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash a cached file again, however unchanged it looks.")
    ] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Fetch an encoder's weights into the cache and verify them; done once, then everything works offline."""
    from api.cli.progress import transfer_progress
    from api.dependencies import settings_of
    from indexer.embedding.registry import make_registry

    settings = settings_of(home=home)
    registry = make_registry(settings)
    spec = registry.get(name or settings.embedding.encoder)
    with transfer_progress(quiet=as_json) as progress:
        path = registry.pull(spec, progress=progress, verify=verify)
    if as_json:
        print_json({"encoder": spec.name, "path": path, "size_bytes": path.stat().st_size})
    else:
        print_line(f"{spec.name}: {path} ({path.stat().st_size / 1e6:.1f} MB, verified)")


@encoder.command("show")
def show(name: _Name, home: options.Home = None, as_json: options.Json = False) -> None:
    """Show an encoder: where it comes from, and, where its weights are here, what is in them."""
    from api.dependencies import settings_of
    from indexer.embedding.registry import make_registry

    settings = settings_of(home=home)
    registry = make_registry(settings)
    spec = registry.get(name)
    document = _document(spec)
    path = registry.cached(spec)
    document["path"] = str(path) if path else None
    if path:
        from indexer.embedding.checkpoints import read_checkpoint
        from indexer.embedding.encoder import choose_device, encoder_id
        from indexer.embedding.engines import settled_precision

        with waiting("reading", quiet=as_json):
            checkpoint = read_checkpoint(path, spec.family, spec.front_end)
        wanted, device = settings.embedding.precision, choose_device(settings.embedding.device)
        precision = settled_precision(wanted, checkpoint.network, device)
        identity = encoder_id(checkpoint.weights_sha256, checkpoint.front_end, precision)
        document.update({"encoder_id": identity, "dim": checkpoint.dim, **checkpoint.facts})
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if value is not None:
            print_line(f"{key:26} {_text(value)}")
    if not path:
        print_line(f"weights are not here yet: voxdex encoder pull {spec.name}")


@encoder.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name to give it.", show_default=False)],
    path: Annotated[
        Path,
        typer.Argument(
            help="A .nemo archive, or a SpeechBrain embedding_model.ckpt.", show_default=False, readable=False
        ),
    ],
    front_end: Annotated[
        str | None,
        typer.Option(
            "--front-end", help="legacy or current, for NeMo weights (default: by the file).", show_default=False
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Register weights of your own under a name; the file is checked, and its hash recorded."""
    from api.dependencies import settings_of
    from indexer.embedding.checkpoints import detect_family, read_checkpoint
    from indexer.embedding.registry import make_registry

    with waiting("reading", quiet=as_json):
        checkpoint = read_checkpoint(path, detect_family(path), front_end)  # Refuses what could not be used later.
        spec = make_registry(settings_of(home=home)).add(name, path, front_end)
    if as_json:
        print_json({**_document(spec), "dim": checkpoint.dim})
    else:
        print_line(f"{spec.name}: {spec.family}, {checkpoint.dim} numbers, front end {checkpoint.front_end}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{key} {one}" for key, one in value.items()]
    return ", ".join(value) if isinstance(value, list) else str(value)


def _document(spec: Any) -> dict[str, Any]:
    document = asdict(spec)
    document["sources"] = [source.get("url") or source.get("requirement") for source in document["sources"]]
    return document
