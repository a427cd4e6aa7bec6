"""A running service as the command line reaches it: its address, a key, and its errors as those of this program."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.errors import (
    AccessDenied,
    Conflict,
    InvalidAudio,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
    VoxdexError,
)

if TYPE_CHECKING:
    from voxdex_client import Client, errors

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="VOXDEX_URL", show_envvar=False, help="Address of a running service (default: VOXDEX_URL)."
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="VOXDEX_API_KEY",
        show_envvar=False,
        help="API key of that service (default: VOXDEX_API_KEY, which other users of this machine cannot see).",
    ),
]

_FAMILIES = (InvalidRequest, InvalidAudio, AccessDenied, NotFound, Conflict)
"""Those that the client names alike."""


@contextmanager
def connected(url: str, key: str | None) -> Iterator["Client"]:
    """Open a client of a service; whatever goes wrong with it is raised as an error of this program.

    Raises
    ------
    VoxdexError
        Of the kind that the service names by its code; Unavailable where it cannot be reached.
    """
    from voxdex_client import Client, Retries, errors

    try:
        client = Client(url, key, retries=Retries(tries=3))  # Somebody waits at a terminal.
    except ValueError as error:
        raise InvalidRequest(f"--url, --key: {error}") from error
    with client:
        try:
            yield client
        except errors.ApiError as error:
            raise _known(error) from error
        except errors.VoxdexError as error:
            raise Unavailable(str(error)) from error


def _known(error: "errors.ApiError") -> VoxdexError:
    """Find the error that the service raised itself."""
    if error.code == RateLimited.code:
        return RateLimited(error.detail, retry_after_s=error.retry_after or 0.0)
    kind = _kinds(VoxdexError).get(error.code)
    if kind is None:
        kind = next((family for family in _FAMILIES if family.__name__ == type(error).__name__), Unavailable)
    return kind(error.detail)


def _kinds(family: type[VoxdexError]) -> dict[str, type[VoxdexError]]:
    """Errors by their codes; a family before its special cases that share its code."""
    found = {family.code: family}
    for kind in family.__subclasses__():
        found = _kinds(kind) | found
    return found
