"""What all models have in common."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Base of all models here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Item = TypeVar("Item")


class Page(Model, Generic[Item]):
    """Some items of a list, and where to go on."""

    items: list[Item]
    next_cursor: str | None
