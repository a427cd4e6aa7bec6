"""The collections of one gallery under one encoder in a Milvus, and which of them is searched."""

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from indexer.errors import CorruptSnapshot, IndexReplaced, Unavailable
from indexer.index.base import FeedMark
from indexer.index.milvus_server import MilvusServer, connect
from indexer.settings import MilvusSettings
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId

GLANCE_S = 1.0
"""How long it may take until a process notices that another one has replaced an index."""

_NAME, _ENCODER, _SEQ, _DIGEST = "voxdex.collection", "voxdex.encoder", "voxdex.seq", "voxdex.digest"


@dataclass(frozen=True)
class Collection:
    """A collection by its own name, which no other one ever has."""

    name: str

    @property
    def generation(self) -> int:
        """How many were made before it, and one."""
        return int(self.name.split("_")[-2])


@dataclass(frozen=True)
class Published(Collection):
    """The collection that is searched."""

    encoder_id: EncoderId
    mark: FeedMark


class GalleryCollections:
    """Makes collections, points the alias at the one that is searched, and drops the others.

    A name is PREFIX_GALLERY_ENCODER_GENERATION_RANDOM; the alias is what comes before the generation. A Milvus changes
    an alias at once for everybody. What a collection is complete up to is among its properties, as is its own name,
    so that one question to the alias tells everything.
    """

    def __init__(
        self, settings: MilvusSettings, gallery_id: GalleryId, encoder_id: EncoderId, dim: int = EMBEDDING_DIM
    ) -> None:
        self.settings = settings
        self.encoder_id = encoder_id
        self.dim = dim
        digest = hashlib.sha256(encoder_id.encode()).hexdigest()[:12]
        self._alias = f"{_stem(settings, gallery_id)}{digest}"
        self._place = (settings, self._alias)

    @property
    def server(self) -> MilvusServer:
        """The connection; errors as of `connect`."""
        return connect(self.settings)

    def current(self) -> Published | None:
        """Return the collection that is searched; None where none was published.

        Raises
        ------
        CorruptSnapshot
            If it is no collection of this encoder; the record can rebuild it.
        Unavailable
            If the server is out of reach.
        """
        current = self._described()
        _glances[self._place] = (time.monotonic(), current)
        return current

    def glance(self) -> Published | None:
        """Return what `current` does, as of a second ago: open galleries ask several times a second.

        A Milvus that is out of reach has not replaced anything since.
        """
        asked_at, seen = _glances.get(self._place, (-GLANCE_S, None))
        if time.monotonic() - asked_at < GLANCE_S:
            return seen
        try:
            return self.current()
        except Unavailable:
            if self._place not in _glances:
                raise
            _glances[self._place] = (time.monotonic(), seen)
            return seen

    def _described(self) -> Published | None:
        try:
            found = self.server.call("describe_collection", self._alias)
        except IndexReplaced:
            return None
        properties = found["properties"]
        try:
            current = Published(
                properties[_NAME],
                EncoderId(properties[_ENCODER]),
                FeedMark(int(properties[_SEQ]), properties[_DIGEST]),
            )
        except (KeyError, ValueError) as error:
            raise CorruptSnapshot(
                f"the alias {self._alias} of Milvus at {self.server.address} is not of a collection that voxdex made: "
                "run `voxdex index rebuild`"
            ) from error
        if current.encoder_id != self.encoder_id:
            raise CorruptSnapshot(
                f"{current.name} is of encoder {current.encoder_id} where {self.encoder_id} is needed: "
                "run `voxdex index rebuild`"
            )
        return current

    def make(self) -> Collection:
        """Make an empty collection that nobody searches yet."""
        generation = max((collection.generation for collection in self._all()), default=0) + 1
        name = f"{self._alias}_{generation:08d}_{secrets.token_hex(4)}"
        properties = {_NAME: name, _ENCODER: self.encoder_id, _SEQ: "0", _DIGEST: ""}
        self.server.create_collection(name, self.dim, self.settings.index, properties)
        return Collection(name)

    def ready(self, collection: Collection) -> None:
        """Have a collection loaded for searches; one that is stays so."""
        self.server.call("load_collection", collection.name)

    def publish(self, collection: Collection, mark: FeedMark, *, keep_previous: bool) -> None:
        """Say up to which change a collection is complete, and let it be searched if it is a new one.

        Raises
        ------
        IndexReplaced
            If a newer one is searched already: then this one is of no further use.
        Unavailable
            If the server is out of reach.
        """
        current = self.current()
        if current is not None and current.generation > collection.generation:
            raise IndexReplaced(f"{collection.name} was replaced by {current.name}: open the index again")
        new = current is None or current.name != collection.name
        if new:
            self.server.call("flush", collection.name)
        self.server.call(
            "alter_collection_properties", collection.name, properties={_SEQ: str(mark.seq), _DIGEST: mark.digest}
        )
        if new:
            self.server.call("create_alias" if current is None else "alter_alias", collection.name, self._alias)
        if new or not keep_previous:
            kept = {collection.name} | ({current.name} if keep_previous and current is not None else set())
            for other in self._all():
                # A newer one is being built, and will be published or replaced in its turn.
                if other.name not in kept and other.generation <= collection.generation:
                    self.server.call("drop_collection", other.name)
        _glances[self._place] = (time.monotonic(), Published(collection.name, self.encoder_id, mark))
        if not keep_previous:
            # A deleted row is left out of answers at once, and out of the files when they are written anew.
            self.server.call("compact", collection.name)

    def clear(self) -> None:
        """Drop all of them."""
        _glances.pop(self._place, None)
        _drop(self.server, f"{self._alias}_")

    def _all(self) -> list[Collection]:
        pattern = re.compile(rf"{re.escape(self._alias)}_\d{{8}}_[0-9a-f]{{8}}")
        return [Collection(name) for name in self.server.call("list_collections") if pattern.fullmatch(name)]


_glances: dict[tuple[MilvusSettings, str], tuple[float, Published | None]] = {}
"""What each alias was last seen to point at, and when; of this process."""


def encoders_kept(settings: MilvusSettings, gallery_id: GalleryId) -> list[EncoderId]:
    """List the encoders under which a gallery has collections."""
    server, stem = connect(settings), _stem(settings, gallery_id)
    names = [name for name in server.call("list_collections") if name.startswith(stem)]
    found = (server.call("describe_collection", name)["properties"].get(_ENCODER) for name in names)
    return sorted({EncoderId(encoder_id) for encoder_id in found if encoder_id})


def drop_gallery(settings: MilvusSettings, gallery_id: GalleryId) -> None:
    """Drop the collections of a gallery, of every encoder."""
    _glances.clear()
    _drop(connect(settings), _stem(settings, gallery_id))


def _stem(settings: MilvusSettings, gallery_id: GalleryId) -> str:
    return f"{settings.prefix}_{int(gallery_id)}_"


def _drop(server: MilvusServer, stem: str) -> None:
    for name in server.call("list_collections"):
        if name.startswith(stem):
            for alias in server.call("list_aliases", name)["aliases"]:
                server.call("drop_alias", alias)
            server.call("drop_collection", name)
