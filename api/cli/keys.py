"""The commands about keys to the service."""

from dataclasses import asdict
from typing import Annotated

import typer

from api.cli import options
from api.cli.output import print_json, print_line, print_notice, print_table

key = typer.Typer(help="Make, list and revoke keys to the service.", no_args_is_help=True)


@key.command("create")
def create_key(
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="read, identify, write (includes read), admin (all but embeddings) or embeddings; may be repeated.",
            show_default=False,
        ),
    ],
    gallery: Annotated[
        str | None, typer.Option("--gallery", "-g", help="The one gallery it opens (default: every gallery).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What people call it.", show_default=False)] = None,
    rate_limit: Annotated[
        int | None,
        typer.Option("--rate-limit", help="Requests of a minute (default: the setting's).", show_default=False, min=1),
    ] = None,
    if_none: Annotated[
        bool, typer.Option("--if-none", help="Do nothing where a key was made before; for scripts that set up.")
    ] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    from api.dependencies import open_services
    from api.keys import KeyRing

    with open_services(home=home) as services:
        ring = KeyRing(services.database)
        if if_none and not ring.is_empty():
            if as_json:
                print_json({"key": None})
            else:
                print_notice("a key was made before; this is left as it is")
            return
        made = ring.create(scopes=scope, name=name, gallery=gallery, rate_limit_per_minute=rate_limit)
    if as_json:
        document = asdict(made.row)
        document.pop("secret_sha256")
        print_json({"key": made.secret, **document})
        return
    print_line(made.secret)
    print_notice("this is the only time that the key is shown; `voxdex key revoke` takes it back")


@key.command("list")
def list_keys(home: options.Home = None, as_json: options.Json = False) -> None:
    """List the keys, the revoked ones too."""
    from api.dependencies import open_services
    from api.keys import KeyRing

    with open_services(home=home) as services:
        rows = KeyRing(services.database).list(limit=100_000) if services.exists else []
    documents = [{name: value for name, value in asdict(row).items() if name != "secret_sha256"} for row in rows]
    if as_json:
        print_json({"keys": documents})
        return
    if not rows:
        print_line("no keys")
        return
    columns = ["public_id", "name", "scopes", "gallery", "last_used_at", "revoked_at"]
    print_table(columns, [[_shown(document[column]) for column in columns] for document in documents])


@key.command("revoke")
def revoke_key(
    public_id: Annotated[str, typer.Argument(help="The middle of the key, as `key list` shows it.")],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make a key worthless at once."""
    from api.dependencies import open_services
    from api.keys import KeyRing

    with open_services(home=home) as services:
        row = KeyRing(services.record()).revoke(public_id)
    if as_json:
        print_json({"revoked": row.public_id, "revoked_at": row.revoked_at})
    else:
        print_line(f"revoked {row.public_id} ({row.name})")


def _shown(value: object) -> object:
    from datetime import datetime

    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return ", ".join(value) if isinstance(value, tuple) else value
