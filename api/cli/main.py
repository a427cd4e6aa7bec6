"""Entry point of the `voxdex` command. Importing it loads neither torch nor a database library: `--help` stays fast."""

import io
import sys
from typing import Annotated

import typer

from api.cli import catalog, encoders, indexes, ingest, system, voices
from api.cli.output import exit_code, print_error
from indexer.errors import VoxdexError

INTERRUPTED = 130
"""128 + SIGINT, as shells count."""

app = typer.Typer(
    name="voxdex",
    help="Speaker search over audio archives: who is this voice, is it who they claim to be, where else do they speak?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    ingest.ingest,
    voices.enroll,
    voices.identify,
    voices.verify,
    voices.compare,
    voices.search,
    voices.embed,
    system.demo,
    system.bench,
    system.doctor,
):
    app.command()(command)
app.add_typer(catalog.speakers, name="speakers")
app.add_typer(catalog.recordings, name="recordings")
app.add_typer(catalog.galleries, name="galleries")
app.add_typer(indexes.index, name="index")
app.add_typer(encoders.encoder, name="encoder")
app.add_typer(system.db, name="db")


@app.callback(invoke_without_command=False)
def voxdex(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=system.print_version, is_eager=True)
    ] = False,
) -> None:
    """Search audio archives by voice."""


def run() -> None:
    """Run the command line; an error becomes one line and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A file name need not be text; one that is not must not end the command that prints it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except VoxdexError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(exit_code(error))
    except SystemExit as leave:
        if leave.code == INTERRUPTED:  # Typer turns Ctrl-C into this status.
            sys.stderr.write("voxdex: interrupted; what was finished is kept, run the same command again to go on\n")
        raise
    except BrokenPipeError:
        # The reader (head, less) went away; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    run()
