"""Parts of an answer: players ask for the bytes that they are about to play (RFC 9110, section 14)."""

import re

from starlette.datastructures import Headers
from starlette.responses import Response

from api.errors import problem

_ONE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


def in_part(content: bytes, headers: Headers, *, media_type: str, etag: str) -> Response:
    """Answer with the part that a request's `Range` asks for, or with all where it asks for none that is known here.

    Parameters
    ----------
    etag
        Of this content, without quotes; a request that continues another content by `If-Range` is sent all of it.
    """
    said = {"Accept-Ranges": "bytes", "Cache-Control": "no-store", "ETag": f'"{etag}"'}
    asked = _ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or headers.get("if-range", said["ETag"]) != said["ETag"]:
        return Response(content, headers=said, media_type=media_type)
    size = len(content)
    first, last = int(asked[1] or 0), size - 1
    if asked[3] is not None:
        first = max(0, size - int(asked[3]))
    elif asked[2]:
        last = min(last, int(asked[2]))
    if first > last:
        detail = f"the range begins at byte {first}, and the stretch has {size} bytes; ask for less"
        return problem(416, "range-not-satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    said["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Response(content[first : last + 1], 206, headers=said, media_type=media_type)
