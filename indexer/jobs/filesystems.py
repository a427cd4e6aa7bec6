"""The services that keep objects, as fsspec reaches them: endpoint and credentials come from their own environment."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from indexer.errors import AccessDenied, InvalidRequest, NotFound, Unavailable, VoxdexError, one_line

logger = logging.getLogger(__name__)

_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "RefreshError"})
_REFUSED, _MISSING, _BUSY = frozenset({401, 403}), frozenset({404, 410}), frozenset({408, 425, 429})


def filesystem(scheme: str) -> Any:
    """Return this process's connection to a service (`s3` or `gs`)."""
    return _connected(scheme, os.getpid())


@lru_cache(maxsize=4)
def _connected(scheme: str, _process: int) -> Any:
    """Connect once in each process: connections do not survive a fork."""
    import fsspec  # Half a second, and only where something is elsewhere.

    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


def forget_connections() -> None:
    """Connect anew when next asked, with the environment of then."""
    _connected.cache_clear()


@contextmanager
def translated_errors(uri: str) -> Iterator[None]:
    """Turn what the services' libraries raise into errors that say who must act."""
    try:
        yield
    except VoxdexError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{uri}: no such bucket or object; it may have been moved since it was listed") from error
    except PermissionError as error:
        raise AccessDenied(f"{uri}: the service refuses it ({one_line(error)}); check the credentials") from error
    except Exception as error:
        # The libraries raise errors of four others; what is not known to be final is tried again.
        status = _status(error)
        if type(error).__name__ in _NO_CREDENTIALS or status in _REFUSED:
            raise AccessDenied(f"{uri}: no usable credentials ({one_line(error)}); set those of the service") from error
        if status in _MISSING:
            raise NotFound(f"{uri}: no such bucket or object") from error
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise InvalidRequest(f"{uri}: the service takes this for no request ({one_line(error)})") from error
        if status is not None and 400 <= status < 500 and status not in _BUSY:
            raise InvalidRequest(f"{uri}: the service answered {status} ({one_line(error)})") from error
        logger.info("a service is out of reach: %s", type(error).__name__)
        raise Unavailable(
            f"{uri}: out of reach ({type(error).__name__}: {one_line(error)[:300]}); try again"
        ) from error


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of a library carries."""
    code = getattr(error, "code", None) or getattr(error, "status", None)
    return int(code) if isinstance(code, int | str) and str(code).isdecimal() else None
