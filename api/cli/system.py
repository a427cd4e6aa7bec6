"""The commands about the installation: demo, doctor, db, version."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli import options
from api.cli.output import print_json, print_line
from api.cli.progress import waiting

db = typer.Typer(help="Look after the database.", no_args_is_help=True)


def print_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version

        print_line(f"voxdex {version('voxdex')}")
        raise typer.Exit


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            readable=False,
            help="A LibriSpeech-style tree (a folder for each speaker) or a CSV manifest (path, speaker) "
            "instead of the meeting excerpts that are fetched.",
            show_default=False,
        ),
    ] = None,
    speakers: Annotated[int, typer.Option("--speakers", help="Most speakers taken from --data.", min=2)] = 40,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show the main job on real speech: ingest, enroll, identify known and unknown voices, verify."""
    from api.cli.demo import run_demo
    from api.dependencies import open_services

    with open_services(home=home) as services:
        report = run_demo(services, data=data, most_speakers=speakers, quiet=as_json)
    if as_json:
        print_json(report)


def doctor(home: options.Home = None, as_json: options.Json = False) -> None:
    """Tell what works here: device, codecs, weights, database; exit status 1 says that something needed does not."""
    from api.cli.doctor import examine
    from api.cli.output import print_table
    from api.dependencies import settings_of

    with waiting("looking", quiet=as_json):
        findings = examine(settings_of(home=home))
    if as_json:
        print_json({"ok": all(finding.ok for finding in findings), "findings": findings})
    else:
        print_table(
            ["", "what", "found"], [["ok" if finding.ok else "NO", finding.what, finding.found] for finding in findings]
        )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@db.command("upgrade")
def upgrade(home: options.Home = None, as_json: options.Json = False) -> None:
    """Bring the database to the schema of this version; safe to run again."""
    from api.dependencies import settings_of
    from indexer.db.migrate import upgrade as run_migrations
    from indexer.db.session import parse_url, shown
    from indexer.file_integrity import make_private_dir

    settings = settings_of(home=home)
    if settings.database.url is None:
        make_private_dir(settings.home)
    with waiting("upgrading", quiet=as_json):
        revision = run_migrations(settings.database_url)
    database = shown(parse_url(settings.database_url))
    if as_json:
        print_json({"database": database, "revision": revision})
    else:
        print_line(f"{database} is at revision {revision}")
