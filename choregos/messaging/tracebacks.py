"""What agents' code raises, as text: what its author needs, without our own frames, and not without end.

An exception is a value of the author's too: its `str`, its class and its notes may raise, take for ever or be no
text that can be sent. Whatever they do, everything here returns text that can.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import NamedTuple

TRACEBACK_LENGTH_MAX = 16_384
MESSAGE_LENGTH_MAX = 4_096
"""Characters kept; the middle goes first, because both ends tell most."""

_NAME_LENGTH_MAX = 256
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_LIBRARY = (
    str(Path(traceback.__file__).parent / "asyncio") + os.sep,
    str(Path(traceback.__file__).parent / "concurrent") + os.sep,
)


class Raised(NamedTuple):
    """An exception as text.

    Attributes:
        type: name of its class.
        message: what `str` says of it.
        traceback: with its causes; frames are the author's and those of libraries.
    """

    type: str
    message: str
    traceback: str

    @property
    def summary(self) -> str:
        """`ValueError: no such order`."""
        return f"{self.type}: {self.message}" if self.message else self.type


def explain(error: BaseException) -> Raised:
    """Runs the author's code if the exception is the author's: in a worker it belongs on the floor."""
    return Raised(type_name(error), message_of(error), format_traceback(error))


def summary_of(error: BaseException) -> str:
    """`ValueError: no such order`."""
    return Raised(type_name(error), message_of(error), "").summary


def type_name(error: BaseException) -> str:
    try:
        return sendable(str(type(error).__name__))[:_NAME_LENGTH_MAX]
    except BaseException:  # of a metaclass
        return "Exception"


def message_of(error: BaseException) -> str:
    try:
        return _cut(sendable(str(error)), MESSAGE_LENGTH_MAX)
    except BaseException as failure:
        return f"(its text cannot be had: {type_name(failure)})"


def format_traceback(error: BaseException) -> str:
    """The traceback of `error` and its causes."""
    try:
        told = traceback.TracebackException(type(error), error, error.__traceback__)
        _leave_out_ours(told)
        text = "".join(told.format())
    except BaseException as failure:
        text = f"{summary_of(error)}\n(its traceback cannot be had: {type_name(failure)})\n"
    return _cut(sendable(text), TRACEBACK_LENGTH_MAX)


def sendable(text: str) -> str:
    """The same, with what UTF-8 cannot express (lone surrogates) escaped."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _cut(text: str, length_max: int) -> str:
    if len(text) <= length_max:
        return text
    half = length_max // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def _leave_out_ours(told: traceback.TracebackException) -> None:
    """Without frames of choregos, those of the library that lead to the author's, and causes that are ours alone."""
    every = [told]
    while every:
        one = every.pop()
        if one.__cause__ is not None and _is_ours(one.__cause__):
            one.__cause__ = None
        if one.__context__ is not None and _is_ours(one.__context__):
            one.__context__ = None
        frames = _frames_of_others(one)
        # Without any there is no "Traceback (most recent call last)" either: TracebackException.format looks for None.
        one.stack = traceback.StackSummary.from_list(frames) if frames else None  # type: ignore[assignment]
        every += (each for each in (one.__cause__, one.__context__, *(one.exceptions or ())) if each is not None)


def _is_ours(told: traceback.TracebackException) -> bool:
    return bool(told.stack) and not _frames_of_others(told)


def _frames_of_others(told: traceback.TracebackException) -> list[traceback.FrameSummary]:
    frames = [frame for frame in told.stack if not frame.filename.startswith(_PACKAGE)]
    while frames and frames[0].filename.startswith(_LIBRARY):
        del frames[0]
    return frames
