"""`voxdex index`: the projection of the record that answers searches."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from api.cli import options
from api.cli.output import print_json, print_line
from api.cli.progress import waiting

index = typer.Typer(help="Inspect, check and rebuild the vector index.", no_args_is_help=True)

_Gallery = Annotated[str, typer.Option("--gallery", "-g", help="Gallery whose index is meant.")]


@index.command("info")
def info(gallery: _Gallery = options.DEFAULT_GALLERY, home: options.Home = None, as_json: options.Json = False) -> None:
    """Show what the index of a gallery holds under each of its encoders; brings it into step with the record first."""
    from api.dependencies import open_services

    with waiting("bringing into step", quiet=as_json), open_services(home=home) as services:
        documents = [services.indexes.info(gallery, one) for one in services.indexes.encoders(gallery)]
    if as_json:
        print_json({"gallery": gallery, **_beside(documents)})
        return
    for document in documents:
        for key, value in {**document, **document["details"]}.items():
            if key != "details":
                print_line(f"{key:16} {value}")


@index.command("check")
def check(
    gallery: _Gallery = options.DEFAULT_GALLERY, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Compare every id and vector of the index that is kept with the record; exit status 1 says that they differ.

    Of a gallery that is searched under two encoders both indexes are compared.
    """
    from api.dependencies import open_services

    with waiting("comparing", quiet=as_json), open_services(home=home) as services:
        reports = {one: services.indexes.check(gallery, one) for one in services.indexes.encoders(gallery)}
    in_step = all(report.in_step for report in reports.values())
    if as_json:
        documents = [{"in_step": report.in_step, **asdict(report)} for report in reports.values()]
        print_json({"gallery": gallery, **_beside(documents), "in_step": in_step})
    else:
        for encoder_id, report in reports.items():
            under = f", encoder {encoder_id}" if len(reports) > 1 else ""
            print_line(f"gallery {gallery}{under}: {report.describe()}")
            for kind, ids in report.differences.items():
                for number in ids:
                    print_line(f"{kind:8} {number}")
    if not in_step:
        raise typer.Exit(1)


@index.command("rebuild")
def rebuild(
    gallery: _Gallery = options.DEFAULT_GALLERY, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Build the index of a gallery anew from the record; processes that answer go on, and change over to it."""
    from api.dependencies import open_services

    with waiting("rebuilding", quiet=as_json), open_services(home=home) as services:
        documents = [services.indexes.rebuild(gallery, one) for one in services.indexes.encoders(gallery)]
    if as_json:
        print_json({"gallery": gallery, **_beside(documents)})
        return
    for document in documents:
        under = f" under {document['encoder_id']}" if len(documents) > 1 else ""
        print_line(f"gallery {gallery}: rebuilt with {document['count']} vectors{under}")


@index.command("migrate")
def migrate(
    to: Annotated[Literal["faiss", "milvus"], typer.Option("--to", help="What is to search the gallery.")],
    gallery: _Gallery = options.DEFAULT_GALLERY,
    leave_collections: Annotated[
        bool,
        typer.Option(
            "--leave-collections", help="Go to faiss although no Milvus is set, and leave there what is there."
        ),
    ] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Have another engine search a gallery: built from the record, switched to once it has caught up."""
    from api.dependencies import open_services
    from indexer.index.migration import Engine

    with waiting(f"going to {to}", quiet=as_json), open_services(home=home) as services:
        done = services.indexes.migrate(gallery, Engine(to), leave_collections=leave_collections)
    if as_json:
        print_json({"gallery": gallery, **asdict(done)})
    elif done.switched:
        print_line(f"gallery {gallery}: {done.count} vectors are searched by {to} now, after {done.seconds:.1f} s")
    else:
        print_line(f"gallery {gallery}: {to} searches it already, with {done.count} vectors")


def _beside(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Lay out what is said of the index of a gallery's own encoder, with that of its second one below."""
    return documents[0] if len(documents) == 1 else {**documents[0], "second": documents[1]}
