"""Tracebacks of agents as text: what the author needs, without our own frames in front, and not without end."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

LENGTH_MAX = 16_384
"""Characters kept; the middle goes first, because both ends tell most."""

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_FOREIGN = (
    _PACKAGE,
    str(Path(traceback.__file__).parent / "asyncio"),
    str(Path(traceback.__file__).parent / "concurrent"),
)


def format_traceback(error: BaseException) -> str:
    """The traceback of `error` and its causes, from the first frame of the agent's own code on."""
    own = _skip_ours(error.__traceback__)
    text = "".join(traceback.TracebackException(type(error), error, own).format())
    if len(text) > LENGTH_MAX:
        half = LENGTH_MAX // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return text


def _skip_ours(first: TracebackType | None) -> TracebackType | None:
    current = first
    while current is not None and current.tb_frame.f_code.co_filename.startswith(_FOREIGN):
        current = current.tb_next
    # An error of our own code (a result that cannot be encoded, say) keeps all its frames.
    return current or first
