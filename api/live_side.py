"""One encoder's side of an open gallery: its index and its enrolled speakers, in step with the record."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from api.dependencies import Services
from api.encoder_side import EncoderSide
from api.enrolled import EnrolledGallery
from api.filtered import FilteredGallery
from indexer.db.rows import GalleryHead
from indexer.embedding.encoder import Encoder
from indexer.embedding.registry import EncoderSpec
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.types import EncoderId


class LiveSide:
    """A gallery under one encoder, for as long as the gallery is open."""

    def __init__(self, services: Services, head: GalleryHead, encoder_id: EncoderId) -> None:
        database, settings = services.database, services.settings
        self.encoder_id = encoder_id
        self.indexed = FollowedIndex(GalleryIndex(database, settings, head.id, head.engine), encoder_id)
        self.enrolled = EnrolledGallery(database, head.id, encoder_id, self.indexed.index, settings.index)
        self.filtered = FilteredGallery(database, head.id, encoder_id)
        try:
            self.enrolled.load()
        except BaseException:
            self.close()
            raise

    def asked_with(self, encoder: Encoder, spec: EncoderSpec) -> EncoderSide:
        """Return what questions are asked of; it stays this one's to close."""
        return EncoderSide(encoder, spec, self.indexed.index, self.enrolled, self.filtered)

    def close(self) -> None:
        """Give back memory and files; calls under way finish first."""
        self.indexed.close()
        self.enrolled.close()


def open_sides(services: Services, head: GalleryHead) -> tuple[LiveSide, ...]:
    """Open a gallery under every encoder that it is searched under, its own first; all of them or none."""
    with ExitStack() as opened:
        sides = []
        for encoder_id in head.encoder_ids:
            sides.append(LiveSide(services, head, encoder_id))
            opened.callback(sides[-1].close)
        opened.pop_all()
        return tuple(sides)


def each(sides: Sequence[LiveSide], work: Callable[[LiveSide], None]) -> None:
    """Do something with every side; what fails with one keeps nobody from the others, and is raised after them."""
    with ExitStack() as done:
        for side in reversed(sides):  # The last one that is put on the stack is done first.
            done.callback(work, side)
