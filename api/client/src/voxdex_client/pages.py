"""Lists that come in pages, as what they are: something to iterate over."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

from voxdex_client.models import Page
from voxdex_client.requests import Call
from voxdex_client.transport import AsyncConnection, Connection

Item = TypeVar("Item")


class Pages(Generic[Item]):
    """All items of a list; the next page is asked for when it is reached."""

    def __init__(self, connection: Connection, page_from: Callable[[str | None], Call[Page[Item]]]) -> None:
        self._connection = connection
        self._page_from = page_from

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from page.items

    def pages(self) -> Iterator[Page[Item]]:
        """Iterate over the pages themselves."""
        page = self.page()
        yield page
        while page.next_cursor is not None:
            page = self.page(page.next_cursor)
            yield page

    def page(self, cursor: str | None = None) -> Page[Item]:
        """Return one page: the first, or the one that a page before it names as `next_cursor`."""
        return self._connection.send(self._page_from(cursor))


class AsyncPages(Generic[Item]):
    """All items of a list; the next page is asked for when it is reached."""

    def __init__(self, connection: AsyncConnection, page_from: Callable[[str | None], Call[Page[Item]]]) -> None:
        self._connection = connection
        self._page_from = page_from

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in page.items:
                yield item

    async def pages(self) -> AsyncIterator[Page[Item]]:
        """Iterate over the pages themselves."""
        page = await self.page()
        yield page
        while page.next_cursor is not None:
            page = await self.page(page.next_cursor)
            yield page

    async def page(self, cursor: str | None = None) -> Page[Item]:
        """Return one page: the first, or the one that a page before it names as `next_cursor`."""
        return await self._connection.send(self._page_from(cursor))
