"""Parts of an object that are made when they are first needed, once, however many threads need them."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_Made = TypeVar("_Made")


class made_once(Generic[_Made]):  # noqa: N801  used as `functools.cached_property` is, which has no lock from 3.12 on
    """A property whose value is made under a lock and kept in the object's `__dict__` under its name.

    A part may need other parts while it is made. Two threads cannot wait for each other as long as no part needs, by
    way of others, itself.
    """

    def __init__(self, make: Callable[[Any], _Made]) -> None:
        self._make = make
        self._name = make.__name__
        self._lock = threading.RLock()
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "made_once[_Made]": ...

    @overload
    def __get__(self, instance: object, owner: type) -> _Made: ...

    def __get__(self, instance: object | None, owner: type) -> "made_once[_Made] | _Made":
        """Make the value; afterwards Python finds it in the object and asks here no more."""
        if instance is None:
            return self
        kept = vars(instance)
        with self._lock:
            if self._name not in kept:
                kept[self._name] = self._make(instance)
            made: _Made = kept[self._name]
            return made
