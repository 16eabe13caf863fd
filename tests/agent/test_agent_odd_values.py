"""Whatever an agent raises, returns or logs: its caller is answered, its node is told, and its neighbours live on."""

from __future__ import annotations

import json

import pytest

from choregos.foundation.errors import CallCancelled, CallError, HandlerFailed, InvalidArguments, PayloadTooLarge
from choregos.wire.instances import Phase
from choregos.wire.worker import Probe

pytestmark = pytest.mark.real

KNOWN = {
    "unspeakable": ("Unspeakable", "cannot be had: RuntimeError"),
    "unspeakable group": ("ExceptionGroup", "many"),
    "nameless": ("Exception", ""),
    "surrogate": ("ValueError", "\\ud800"),
    "huge": ("ValueError", "last word"),
    "syntax": ("SyntaxError", "odd"),
    "exit": ("SystemExit", "4"),
    "interrupt": ("KeyboardInterrupt", "k"),
    "base": ("Ending", "base"),
}
"""What is raised → class and words that its caller reads."""


async def failure_of(awaitable) -> CallError:
    with pytest.raises(CallError) as caught:
        await awaitable
    return caught.value


async def settle(stage, sample) -> int:
    """An odd agent and a neighbour in one worker, whose process it returns."""
    stage.assign(sample("Greeter"), "neighbour")
    stage.assign(sample("Odd", module="odd_agents", block_timeout_s=0.3), "odd")
    await stage.until_running("neighbour", "odd")
    return await stage.call("neighbour", "process")


async def test_each_way_to_fail_is_answered_and_hurts_nobody(stage, sample):
    pid = await settle(stage, sample)
    for what, (type_, words) in KNOWN.items():
        for method in ("throw", "throw_in_thread"):
            error = await failure_of(stage.call("odd", method, what=what))
            assert isinstance(error, HandlerFailed), what
            assert error.remote_type == type_
            assert words in str(error)
            assert "odd_agents.py" in error.remote_traceback or what == "syntax"
            assert len(str(error)) < 10_000
    assert isinstance(await failure_of(stage.call("odd", "throw", what="cancelled")), CallCancelled)
    assert isinstance(await failure_of(stage.call("odd", "throw", what="generator exit")), HandlerFailed)
    assert await stage.call("neighbour", "process") == pid
    assert stage.statuses["neighbour"].restarts == stage.statuses["odd"].restarts == 0


async def test_what_would_end_the_event_loop_ends_what_raised_it(stage, sample):
    pid = await settle(stage, sample)
    assert await stage.call("odd", "stop_the_loop") == "gone on"
    for what in ("exit", "interrupt", "base", "cancelled"):
        assert await stage.call("odd", "throw_in_callback", what=what) == "gone on"
    for what, seen in {
        "exit": "RuntimeError",
        "interrupt": "RuntimeError",
        "base": "Ending",
        "cancelled": "True",
    }.items():
        assert await stage.call("odd", "throw_in_task", what=what) == seen
    assert await stage.call("neighbour", "process") == pid
    assert stage.statuses["neighbour"].restarts == stage.statuses["odd"].restarts == 0


async def test_an_exception_whose_text_never_ends_is_a_block_of_its_agent(stage, sample):
    pid = await settle(stage, sample)
    error = await failure_of(stage.call("odd", "throw_endless"))
    assert isinstance(error, HandlerFailed)
    assert "__str__" in (await stage.until_failed("odd", "Blocked")).message
    assert await stage.call("neighbour", "process") == pid


async def test_arguments_that_cannot_be_made_are_the_callers_fault_or_the_agents_but_answered(stage, sample):
    pid = await settle(stage, sample)
    for what in ("unspeakable", "surrogate", "huge", "nameless"):
        error = await failure_of(stage.call("odd", "take", picky={"text": what}))
        assert isinstance(error, InvalidArguments), what
        assert "take(picky: Picky)" in str(error)
    for what in ("exit", "interrupt", "base"):
        assert isinstance(await failure_of(stage.call("odd", "take", picky={"text": what})), HandlerFailed)
    assert await stage.call("neighbour", "process") == pid


@pytest.mark.parametrize("what", ["object", "surrogate", "deep", "large"])
async def test_a_result_that_cannot_be_sent_names_its_method_and_shows_none_of_our_code(stage, sample, what):
    await settle(stage, sample)
    error = await failure_of(stage.call("odd", "give", what=what))
    assert isinstance(error, HandlerFailed)
    assert "the result of give cannot be sent" in str(error)
    assert "choregos/" not in error.remote_traceback
    assert len(error.remote_traceback.splitlines()) == 1


async def test_a_result_that_is_too_large_says_how_large_it_is(stage, sample):
    await settle(stage, sample)
    error = await failure_of(stage.call("odd", "give", what="huge"))
    assert isinstance(error, PayloadTooLarge)
    assert "5,000,005 bytes" in str(error)


async def test_what_cannot_be_shown_is_a_line_of_log_all_the_same(stage, sample):
    await settle(stage, sample)
    await stage.call("odd", "write")
    lines: list[str] = []
    while "last line" not in lines:
        lines += [text for _, _, text in (await stage.log("odd", after=len(lines), wait_s=5.0)).lines]
    assert lines[0] == "field error=<Unspeakable whose repr raises RuntimeError>"
    assert all("odd_agents.py" in line and "RuntimeError: no text" in line for line in lines[1:3])
    assert lines[3] == "half a pair: \\ud800"


@pytest.mark.parametrize(
    "what", ["unspeakable", "surrogate", "exit", "interrupt", "base", "cancelled", "generator exit"]
)
async def test_hooks_may_raise_what_they_like(stage, sample, what):
    stage.assign(sample("Greeter"), "neighbour")
    await stage.until_running("neighbour")
    pid = await stage.call("neighbour", "process")
    for where, reason in (("made", "StartFailed"), ("started", "StartFailed"), ("probed", "ProbeFailed")):
        probe = Probe("healthy", period_s=0.01, failure_threshold=2) if where == "probed" else None
        settings = json.dumps({"where": where, "what": what}).encode()
        stage.assign(sample("FailsOddly", module="odd_agents", settings=settings, liveness=probe), where)
        assert (await stage.until_failed(where, reason)).message
    settings = json.dumps({"where": "stopped", "what": what}).encode()
    stage.assign(sample("FailsOddly", module="odd_agents", settings=settings), "stopped")
    await stage.until_running("stopped")
    stage.withdraw("made", "started", "probed", "stopped")
    await stage.until(lambda: stage.statuses["stopped"].phase is Phase.STOPPED)
    assert await stage.call("neighbour", "process") == pid
    assert stage.statuses["neighbour"].restarts == 0
