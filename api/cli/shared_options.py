"""Options that several commands take alike: the fields of a dataclass, written once."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, cast, get_type_hints


def takes(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as options; it gets them filled in as its argument `asked`."""
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for name, one in inspect.signature(command).parameters.items() if name != "asked"]

        @wraps(command)
        def run(**given: Any) -> None:
            asked = kind(**{name: given.pop(name) for name in names})
            command(**given, asked=asked)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared
        # Typer, and whatever writes the reference, read these instead of the wrapper's own.
        described = cast(Any, run)
        described.__signature__ = inspect.Signature(parameters)
        described.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorated
