"""Entry point of the `voxdex` command. Importing it loads neither torch nor a database library: `--help` stays fast."""

from api.cli.leaving import leave  # isort: skip  # before anything registers what is to be called at the end
import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from api.cli import (
    bench,
    calibrations,
    catalog,
    diarize,
    encoders,
    evaluate,
    indexes,
    ingest,
    jobs,
    keys,
    reembed,
    search,
    serve,
    service,
    system,
    unknown,
    voices,
)
from api.cli.output import EXIT_SOME_FAILED, exit_code, print_error
from indexer.errors import InvalidRequest, Unavailable, VoxdexError
from indexer.openmp import share_cores

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
    diarize.diarize,
    search.search,
    voices.embed,
    calibrations.calibrate,
    reembed.reembed,
    unknown.cluster,
    service.worker,
    service.beat,
    service.up_local,
    serve.serve,
    system.demo,
    system.doctor,
):
    app.command()(command)
app.add_typer(bench.bench, name="bench")
app.add_typer(calibrations.calibrations, name="calibrations")
app.add_typer(evaluate.evaluate, name="evaluate")
app.add_typer(jobs.jobs, name="jobs")
app.add_typer(catalog.speakers, name="speakers")
app.add_typer(catalog.recordings, name="recordings")
app.add_typer(catalog.galleries, name="galleries")
app.add_typer(unknown.unknown, name="unknown")
app.add_typer(indexes.index, name="index")
app.add_typer(encoders.encoder, name="encoder")
app.add_typer(keys.key, name="key")
app.add_typer(system.db, name="db")


@app.callback(invoke_without_command=False)
def voxdex(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=system.print_version, is_eager=True)
    ] = False,
) -> None:
    """Search audio archives by voice."""


def run() -> NoReturn:
    """Run the command line, and end the process with its exit status."""
    leave(answer())


def answer() -> int:
    """Run the command line; an error becomes one line, a document where JSON was asked for, and an exit status."""
    share_cores()
    as_json = "--json" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        # A file name need not be text; one that is not must not end the command that prints it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) went away; there is nobody left to tell.
        _discard_output()
        status = 0
    except OSError as error:
        _discard_output()
        what = error.filename or "the answer"
        print_error(Unavailable(f"{what} cannot be written or read: {error.strerror or error}"), as_json=False)
        status = exit_code(Unavailable())
    return status


def _run(*, as_json: bool) -> int:
    try:
        status = app(standalone_mode=False)
    except VoxdexError as error:
        print_error(error, as_json=as_json)
        return exit_code(error)
    except typer.Abort:
        return EXIT_SOME_FAILED
    except typer.TyperException as error:
        return _report_usage(error, as_json=as_json)
    if status == INTERRUPTED:  # Typer turns Ctrl-C into this status.
        kept = "; what was finished is kept, run the same command again to go on"
        sys.stderr.write(f"voxdex: interrupted{'' if 'bench' in sys.argv[1:2] else kept}\n")
    return status if isinstance(status, int) else 0


def _report_usage(error: typer.TyperException, *, as_json: bool) -> int:
    """Report a mistyped command like every other error; a command without arguments shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":  # Not public in Typer, and no error in a user's eyes.
        sys.stderr.write(f"{error}\n")
        return exit_code(InvalidRequest())
    format_message = getattr(error, "format_message", error.__str__)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "voxdex"
    print_error(InvalidRequest(f"{format_message().rstrip('.')}; see `{command} --help`"), as_json=as_json)
    return exit_code(InvalidRequest())


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that leaving does not fail on it again."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives until the process ends


if __name__ == "__main__":
    run()
