"""Progress of jobs as it happens: server-sent events, read line by line and taken up again when they break off."""

from voxdex_client.errors import UnexpectedAnswer
from voxdex_client.models import Job
from voxdex_client.transport import Retries

_TYPES = frozenset({"progress", "end"})


class Following:
    """Reads a stream of events, whoever fetches it, and decides what happens when it breaks off.

    Every event holds the whole job, so that nothing is missed by asking again from the beginning.
    """

    def __init__(self, retries: Retries) -> None:
        self.ended = False
        self._retries = retries
        self._failed = 0
        self._type = ""
        self._data: list[str] = []

    def begin(self) -> None:
        """Forget the unfinished event of a stream that broke off."""
        self._type, self._data = "", []

    def feed(self, line: str) -> Job | None:
        """Take a line (HTML, section 9.2.6); returns the job that it completes."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._type = value
            elif name == "data":
                self._data.append(value)
            return None
        kind, data = self._type, "\n".join(self._data)
        self.begin()
        if kind not in _TYPES or not data:
            return None
        try:
            job = Job.model_validate_json(data)
        except ValueError as error:
            raise UnexpectedAnswer(f"an event of type {kind} is not understood: {error}") from error
        self._failed = 0
        self.ended = kind == "end"
        return job

    def broke(self, error: Exception | None) -> float:
        """Return the seconds after which to ask again; raises the error when that was tried often enough."""
        self._failed += 1
        if self._failed >= self._retries.tries:
            raise error or UnexpectedAnswer("the stream of events ends again and again before the job does")
        return self._retries.wait_s(self._failed)
