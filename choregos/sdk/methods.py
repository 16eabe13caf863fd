"""The methods of an agent class, read once from its type hints.

Per method a msgspec Struct of its arguments is made, so that a call's bytes are decoded and checked in one step,
straight into the types the author wrote. Understands what msgspec does (builtins, dataclasses, Structs, TypedDict,
enums, dates, unions …) and pydantic models. What does not fit as it came is read as JSON means it: a client that can
only say JSON sends `bytes` as base64 and the keys of every map as text.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from choregos.foundation.errors import InvalidArguments, MethodNotFound
from choregos.messaging.tracebacks import message_of, summary_of
from choregos.messaging.values import decode, encode, is_pydantic_model
from choregos.sdk.capability import MARK

_CACHE = "__choregos_methods__"

# Where in the arguments msgspec found the fault: `$.order.items[0].price`.
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_FIELD = re.compile(r"Object (missing required|contains unknown) field `([^`]*)`")


class _Omitted:
    """Stands for an argument that was not given: the method's own default applies."""

    def __repr__(self) -> str:
        return "…"


_OMITTED = _Omitted()


class Method:
    """One method that can be called.

    Attributes:
        name, capability: as declared.
        signature: for people: `answer(question: str, top: int = 3)`.
    """

    __slots__ = (
        "_decode",
        "_function",
        "_has_defaults",
        "_is_async",
        "_struct",
        "capability",
        "name",
        "signature",
    )

    def __init__(self, owner: type, name: str, function: Any) -> None:
        self.name = name
        self.capability: str = getattr(function, MARK)
        hints = _hints(owner, function)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        self.signature = f"{name}({', '.join(map(_shown, parameters))})"
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function)
        self._has_defaults = any(parameter.default is not parameter.empty for parameter in parameters)
        self._struct, self._decode = self._decoder(owner, parameters, hints)

    def arguments(self, encoded: bytes) -> dict[str, Any]:
        """Arguments by name, in their declared types; those not given are absent.

        Raises:
            InvalidArguments: names the argument, what was expected and what came.
        """
        try:
            given = self._decode(encoded)
        except Exception:  # msgspec's own, or whatever a type of the author's raises while it is made
            given = self._as_json(encoded)
        decoded = msgspec.structs.asdict(given)
        if self._has_defaults:
            return {name: value for name, value in decoded.items() if value is not _OMITTED}
        return decoded

    def _as_json(self, encoded: bytes) -> Any:
        try:
            return msgspec.convert(decode(encoded), self._struct, str_keys=True, dec_hook=_decode_foreign)
        except msgspec.MsgspecError as error:
            raise InvalidArguments(f"{_told(message_of(error))}; it is {self.signature}") from error
        except Exception as error:
            raise InvalidArguments(f"{summary_of(error)}; it is {self.signature}") from error

    async def run(self, agent: Any, arguments: Mapping[str, Any]) -> bytes:
        """Runs the method and encodes what it returns; raises what it raises.

        Raises:
            TypeError: the result cannot be sent.
        """
        if self._is_async:
            result = await self._function(agent, **arguments)
        else:
            result = await asyncio.to_thread(_in_thread, self._function, agent, arguments)
        try:
            return encode(result)
        except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
            raise TypeError(f"the result of {self.name} cannot be sent: {message_of(error)}") from error

    def _decoder(self, owner: type, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> Any:
        """The Struct of the arguments, and what decodes one."""
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for parameter in parameters:
            type_ = hints.get(parameter.name, Any)
            if parameter.default is parameter.empty:
                fields.append((parameter.name, type_))
            else:
                fields.append((parameter.name, type_, _OMITTED))
        try:
            struct = msgspec.defstruct(
                f"{owner.__name__}.{self.name}", fields, kw_only=True, forbid_unknown_fields=True
            )
            return struct, msgspec.msgpack.Decoder(struct, dec_hook=_decode_foreign).decode
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{owner.__name__}.{self.name}: arguments of these types cannot be sent: {error}"
            ) from error


class Methods:
    """What one class offers.

    Attributes:
        by_name: method name → method.
        by_capability: capability → its methods, in the order of their definition.
    """

    __slots__ = ("by_capability", "by_name")

    def __init__(self, owner: type) -> None:
        self.by_name: dict[str, Method] = {}
        self.by_capability: dict[str, list[Method]] = {}
        for name, function in _marked(owner):
            method = self.by_name[name] = Method(owner, name, function)
            self.by_capability.setdefault(method.capability, []).append(method)

    def find(self, name: str, capability: str) -> Method:
        """The method of this name; without a name the only one of the capability, or of the class.

        Raises:
            MethodNotFound: there is none, or more than one; says which there are.
        """
        if name:
            method = self.by_name.get(name)
            if method is not None:
                return method
            raise MethodNotFound(f"there is no method {name}; there are: {self._listed(self.by_name.values())}")
        offered = self.by_capability.get(capability) or list(self.by_name.values())
        if len(offered) == 1:
            return offered[0]
        raise MethodNotFound(f"name the method to call; there are: {self._listed(offered)}")

    @staticmethod
    def _listed(methods: typing.Iterable[Method]) -> str:
        return ", ".join(method.signature for method in methods) or "none"


def methods_of(class_: type) -> Methods:
    """What `class_` offers; read once per class.

    Raises:
        TypeError: a type hint cannot be resolved, or arguments of that type cannot be sent.
    """
    methods = class_.__dict__.get(_CACHE)
    if methods is None:
        methods = Methods(class_)
        setattr(class_, _CACHE, methods)
    return typing.cast(Methods, methods)


def _in_thread(function: Any, agent: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return function(agent, **arguments)
    except StopIteration as error:
        # A future cannot carry it (before Python 3.12 its waiter would never wake); coroutines do the same (PEP 479).
        raise RuntimeError(f"{function.__name__} raised StopIteration") from error


def _marked(owner: type) -> list[tuple[str, Any]]:
    # From the furthest base on, so that an override keeps the place of what it overrides; an override without the
    # decorator keeps the capability too: it is the same promise.
    found: dict[str, Any] = {}
    for class_ in reversed(owner.__mro__):
        for name, member in vars(class_).items():
            if name in found and inspect.isfunction(member) and not hasattr(member, MARK):
                setattr(member, MARK, getattr(found[name], MARK))
            if hasattr(member, MARK):
                found[name] = member
            else:
                found.pop(name, None)
    return list(found.items())


def _hints(owner: type, function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise TypeError(
            f"{owner.__name__}.{function.__name__}: a type hint cannot be resolved: {error}; "
            "types of arguments must be importable from the agent's module when it runs"
        ) from error


def _shown(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    shown = parameter.name
    if annotation is not parameter.empty:
        shown += f": {annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)}"
    if parameter.default is not parameter.empty:
        shown += f" = {parameter.default!r}" if annotation is not parameter.empty else f"={parameter.default!r}"
    return shown


def _told(message: str) -> str:
    field = _FIELD.search(message)
    path = _PATH.search(message)
    inside = f" of argument {path[1]}" if path and path[1] else ""
    if field:
        verb = "missing" if field[1].startswith("missing") else "unknown"
        return f"{verb} field {field[2]}{inside}" if inside else f"{verb} argument {field[2]}"
    if path and path[1]:
        return f"argument {path[1]}: {message[: path.start()].replace('`', '')}"
    return message.replace("`", "")


def _decode_foreign(type_: type, value: Any) -> Any:
    if is_pydantic_model(type_):
        return type_.model_validate(value)  # type: ignore[attr-defined]
    raise NotImplementedError(f"values of type {type_.__name__} cannot be received")
