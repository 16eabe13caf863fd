"""`@capability`: marks the methods of an agent that others may call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

MARK = "__choregos_capability__"

Method = TypeVar("Method", bound=Callable[..., Any])

_Kind = inspect.Parameter


@overload
def capability(name: Method, /) -> Method: ...


@overload
def capability(name: str, /) -> Callable[[Method], Method]: ...


def capability(name: Any, /) -> Any:
    """Offers a method under a capability: `@capability` takes the method's own name, `@capability("name")` this one.

    Several methods may share a capability; a caller then names the method too. Methods are `async def`, or plain
    functions, which run in a thread and may block.

    Raises:
        TypeError: the method cannot be called by name over the network (streaming, `*arguments`, positional-only).
    """
    if isinstance(name, str):
        if not name:
            raise TypeError("a capability needs a name")
        return lambda method: _mark(method, name)
    return _mark(name, getattr(name, "__name__", ""))


def _mark(method: Any, name: str) -> Any:
    if not inspect.isfunction(method):
        raise TypeError(f"@capability belongs on a method of an Agent, not on {method!r}")
    where = method.__qualname__
    if inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        raise TypeError(f"{where} yields; a capability returns one result: streaming is not supported yet")
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD, _Kind.POSITIONAL_ONLY):
            raise TypeError(f"{where}: arguments travel by name, so {parameter} must be an ordinary parameter")
    setattr(method, MARK, name)
    return method
