"""The connection to a Milvus server; the only module that imports pymilvus."""

import atexit
import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from indexer.errors import IndexReplaced, InvalidRequest, Unavailable
from indexer.settings import MilvusSettings

_NO_COLLECTION = 100
"""The code by which every Milvus since 2.3 says that there is no such collection."""

_NOT_LOADED = 101
"""The code of a collection that is there and not in memory, as after a Milvus Lite was started again."""

_SHOWN = 300
"""Characters of a server's own words that a message gives: a failed filter would come back with all of its ids."""

ID, CHECKSUM, VECTOR = "id", "checksum", "vector"
"""Fields of every collection: embedding id, CRC-32 of the vector's bytes, and the vector."""


class MilvusServer:
    """One connection, shared by all threads of this process; every call ends within the time that the settings allow.

    Raises
    ------
    InvalidRequest
        If no address is set.
    Unavailable
        If pymilvus is not installed, or the server does not answer.
    """

    def __init__(self, settings: MilvusSettings) -> None:
        uri = "" if settings.uri is None else settings.uri.get_secret_value()
        if not uri:
            raise InvalidRequest("no Milvus is known: set VOXDEX_INDEX__MILVUS__URI, as in http://milvus:19530")
        try:
            import pymilvus
        except ImportError as error:
            raise Unavailable(
                "the engine milvus needs the package pymilvus: run `make install LOCK=milvus.lock`, or install "
                "voxdex with the extra `milvus`"
            ) from error
        # It logs every failed call with the whole request; what fails here is raised, and logged by whoever handles it.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        logging.getLogger("grpc._server").addFilter(_is_worth_telling)
        self._pymilvus = pymilvus
        self._timeout_s = settings.timeout_s
        self.address = _without_credentials(uri)
        # A Milvus Lite loses rows from sight while it flushes them, on request or because of their size: what is
        # searched at that moment would come back empty with no error.
        self._turn: AbstractContextManager[object] = nullcontext() if "://" in uri else threading.Lock()
        with self._named_errors("connect"):
            self._client = pymilvus.MilvusClient(
                uri,
                token="" if settings.token is None else settings.token.get_secret_value(),
                db_name="" if settings.database == "default" else settings.database,
                timeout=settings.timeout_s,
            )

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of pymilvus's `MilvusClient`, whose first argument is a collection if it needs a loaded one.

        Raises
        ------
        IndexReplaced
            If the collection is gone.
        Unavailable
            If the server refuses or does not answer in time.
        """
        with self._turn, self._named_errors(method):
            try:
                return getattr(self._client, method)(*arguments, timeout=self._timeout_s, **named)
            except self._pymilvus.MilvusException as error:
                if error.code != _NOT_LOADED:
                    raise
                self._client.load_collection(arguments[0], timeout=self._timeout_s)
                return getattr(self._client, method)(*arguments, timeout=self._timeout_s, **named)

    def pages(self, collection: str, fields: list[str], rows: int, scope: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows that an expression leaves, by rising id, so many at a time; errors as in `call`."""
        pages = self.call("query_iterator", collection, batch_size=rows, filter=scope, output_fields=fields)
        try:
            while True:
                with self._turn, self._named_errors("query_iterator"):
                    page = pages.next()
                if not page:
                    return
                yield page
        finally:
            pages.close()

    def create_collection(self, name: str, dim: int, index: str, properties: dict[str, str]) -> None:
        """Make an empty collection that can be searched at once, and reads what was written before."""
        pymilvus = self._pymilvus
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ID, pymilvus.DataType.INT64, is_primary=True)
        schema.add_field(CHECKSUM, pymilvus.DataType.INT64)
        schema.add_field(VECTOR, pymilvus.DataType.FLOAT_VECTOR, dim=dim)
        indexes = self._client.prepare_index_params()
        # Not COSINE, for which some kinds of index keep the vectors divided by their norm: these are of unit norm
        # already, and must come back bit for bit.
        indexes.add_index(VECTOR, index_type=index, metric_type="IP")
        self.call(
            "create_collection",
            name,
            schema=schema,
            index_params=indexes,
            properties=properties,
            consistency_level="Strong",
        )

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    @contextmanager
    def _named_errors(self, what: str) -> Iterator[None]:
        import grpc

        try:
            yield
        except self._pymilvus.MilvusException as error:
            if error.code == _NO_COLLECTION:
                raise IndexReplaced(f"a collection of Milvus at {self.address} is gone: try again") from error
            raise self._unavailable(what, error) from error
        except grpc.RpcError as error:
            raise self._unavailable(what, error) from error

    def _unavailable(self, what: str, error: Exception) -> Unavailable:
        reason = " ".join(str(getattr(error, "message", error)).split())[:_SHOWN]
        return Unavailable(
            f"Milvus at {self.address} did not do `{what}` ({reason or type(error).__name__}): look at its log and at "
            "VOXDEX_INDEX__MILVUS__*, then try again"
        )


_connected: dict[tuple[str, str, str, float], MilvusServer] = {}
_connecting = threading.Lock()


def connect(settings: MilvusSettings) -> MilvusServer:
    """Return this process's connection to the Milvus of these settings; errors as of `MilvusServer`."""
    key = (
        "" if settings.uri is None else settings.uri.get_secret_value(),
        "" if settings.token is None else settings.token.get_secret_value(),
        settings.database,
        settings.timeout_s,
    )
    with _connecting:
        if key not in _connected:
            _connected[key] = MilvusServer(settings)
        return _connected[key]


def disconnect() -> None:
    """End every connection of this process; whoever needs one makes it anew."""
    with _connecting:
        while _connected:
            _connected.popitem()[1].close()


atexit.register(disconnect)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Pass over that a Milvus Lite, whose server is in this process, has no time service: pymilvus does without."""
    error = record.exc_info[1] if record.exc_info else None
    frames = [] if error is None else traceback.extract_tb(error.__traceback__)
    return not (isinstance(error, NotImplementedError) and frames and frames[-1].name == "AllocTimestamp")


def _without_credentials(uri: str) -> str:
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
