"""What this project uses of numba, typed: a compiled function keeps the signature of the plain one."""

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

def njit(*, cache: bool = ..., nogil: bool = ..., inline: str = ..., _nrt: bool = ...) -> Callable[[F], F]: ...
