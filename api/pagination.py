"""Cursors: where a list goes on, as text that clients hand back and do not look into."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from api.schemas.common import ID_LIMIT, Page
from indexer.errors import InvalidRequest

Row = TypeVar("Row")
Item = TypeVar("Item")

_FORM = re.compile(rb"after:(\d{1,19}):([0-9a-f]{12})")


def after_of(cursor: str | None, *of: object) -> int:
    """Id of the last row of the page before; 0 without a cursor.

    Parameters
    ----------
    of
        What the list is of, as in `after_of(cursor, "recordings", gallery)`: numbers of another list would skip rows.

    Raises
    ------
    InvalidRequest
        If it is no cursor that this list gave out.
    """
    if cursor is None:
        return 0
    try:
        match = _FORM.fullmatch(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (UnicodeEncodeError, binascii.Error, ValueError):
        match = None
    # Decoders pass over what is no base64, so only what would be written again counts.
    if match is None or int(match[1]) > ID_LIMIT or cursor_of(int(match[1]), *of) != cursor:
        raise InvalidRequest("cursor is none that this list gave out; use `next_cursor` of its page before as it is")
    return int(match[1])


def cursor_of(last_id: int, *of: object) -> str:
    """Write where a list goes on after the row of this id."""
    which = hashlib.sha256(repr(of).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return base64.urlsafe_b64encode(f"after:{last_id}:{which}".encode("ascii")).decode("ascii")


def page_of(rows: Sequence[Row], limit: int, view: Callable[[Row], Item], *of: object) -> Page[Item]:
    """Build a page from up to `limit` + 1 rows: one more than asked for tells that there is more."""
    shown: Sequence[Any] = rows[:limit]
    return Page[Any](
        items=[view(row) for row in shown],
        next_cursor=cursor_of(shown[-1].id, *of) if len(rows) > limit else None,
    )
