"""Options that several commands share, so that they read alike everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        readable=False,
        help="Folder of the database and the index (default: VOXDEX_HOME, else ~/.voxdex).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Gallery = Annotated[str, typer.Option("--gallery", "-g", help="Gallery to work in.")]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", help="Encoder's name, or path of a .nemo file.", show_default=False),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", help="mix, left, right, a channel number from 0, or each.", show_default=False),
]
Speakers = Annotated[
    str | None,
    typer.Option(
        "--speakers",
        help="Voices of each recording: auto, one, channels (one a channel), or how many (default: the setting, auto).",
        show_default=False,
    ),
]
Speech = Annotated[
    str | None,
    typer.Option(
        "--speech",
        help="auto: speech is found; off: all that sounds is taken for it; given:PATH: a file or folder says where it "
        "is, as RTTM or labels (default: the setting, auto).",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before erasing.")]

DEFAULT_GALLERY = "default"


def check_speakers(speakers: str | None) -> None:
    """Refuse a number of voices that has no meaning, before any work is done; raises InvalidRequest."""
    if speakers is not None:
        from indexer.listening import parse_speakers

        parse_speakers(speakers)
