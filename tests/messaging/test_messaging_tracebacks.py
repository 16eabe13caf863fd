"""An exception as text: the author's frames, and something that can be sent whatever its class does."""

from __future__ import annotations

import asyncio

import pytest

from choregos.messaging import values
from choregos.messaging.tracebacks import (
    MESSAGE_LENGTH_MAX,
    TRACEBACK_LENGTH_MAX,
    explain,
    format_traceback,
    message_of,
    summary_of,
)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitsWhenRead(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class NoText(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307


class OddNotes(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise ValueError("no notes")


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise LookupError("no name")


class Nameless(Exception, metaclass=Meta):
    pass


def odd_syntax_error() -> SyntaxError:
    error = SyntaxError("odd")
    error.text = 3  # type: ignore[assignment]
    error.lineno = error.offset = 1
    return error


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


ODD = [Unspeakable(), ExitsWhenRead(), NoText(), OddNotes("x"), Nameless("x"), odd_syntax_error(), ValueError("\ud800")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__qualname__)
def test_whatever_an_exception_does_there_is_text_that_can_be_sent(error: Exception) -> None:
    for text in (*explain(raised(error)), summary_of(error), explain(raised(ExceptionGroup("g", [error]))).traceback):
        text.encode()


def test_what_is_long_keeps_its_ends() -> None:
    error = raised(ValueError("first word " + "x" * 1_000_000 + " last word"))
    for text, length_max in ((message_of(error), MESSAGE_LENGTH_MAX), (format_traceback(error), TRACEBACK_LENGTH_MAX)):
        assert len(text) < length_max + 100
        assert text.endswith(("last word", "last word\n"))
    assert "first word" in message_of(error)


def test_frames_of_others_are_kept_and_ours_are_not() -> None:
    error = None
    try:
        values.encode_arguments({"x": object()})
    except Exception as caught:
        error = caught
    assert error is not None
    text = format_traceback(error)
    assert "test_messaging_tracebacks.py" in text
    assert "choregos/messaging" not in text
    assert "direct cause" not in text, "its cause is ours alone"


def test_a_cause_that_was_never_raised_is_told() -> None:
    with pytest.raises(ValueError, match="effect") as caught:
        raise ValueError("effect") from KeyError("cause")
    assert "KeyError: 'cause'" in format_traceback(caught.value)


async def test_the_library_between_two_functions_of_the_author_stays() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as caught:
        await wait()
    assert "in wait" in format_traceback(caught.value)
    assert "timeouts.py" in format_traceback(caught.value)
