"""Shapes that several nouns of the operations API share."""

from typing import Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class Items(BaseModel, Generic[T]):
    """A list, in an object so that it can grow properties."""

    items: list[T]
