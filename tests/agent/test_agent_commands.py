"""Commands beside an agent: streams, terminals, statuses, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from choregos.agent.commands import book as book_module
from choregos.agent.commands.book import CommandBook, Place
from choregos.agent.commands.descriptors import BUFFERED_BYTES_MAX
from choregos.foundation.ids import SystemIds
from choregos.wire.commands import (
    SILENCE_S,
    STDERR,
    STDOUT,
    CommandReply,
    EndCommand,
    ReadCommand,
    StartCommand,
    WriteCommand,
)

pytestmark = pytest.mark.real
PATIENCE_S = 30.0


class Clock:
    """Real sleeps, and a time that can be moved."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 50)


class Beside:
    """A book whose only agent lives in this process, and what runs beside it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.place: Place | None = Place("team/web-0", {"COLOR": "blue"}, "w1", os.getpid())
        self.book = CommandBook(lambda uid: self.place if uid == "u" else None, self.clock, SystemIds())

    async def start(self, *arguments: str, uid: str = "u", **options: Any) -> CommandReply:
        return await self.book.answer(StartCommand(uid, arguments, **options))

    async def begin(self, *arguments: str, **options: Any) -> str:
        reply = await self.start(*arguments, **options)
        assert not reply.refusal, reply.refusal
        return reply.command

    async def write(self, command: str, data: bytes = b"", **options: Any) -> CommandReply:
        return await self.book.answer(WriteCommand(command, data, **{"wait_s": PATIENCE_S, **options}))

    async def read(self, command: str, wait_s: float = 5.0) -> CommandReply:
        return await self.book.answer(ReadCommand(command, wait_s))

    async def finish(self, command: str) -> tuple[bytes, bytes, int]:
        """Standard output and error, and the status."""
        streams = {STDOUT: b"", STDERR: b""}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                reply = await self.read(command)
                assert not reply.refusal, reply.refusal
                for channel, data in reply.output:
                    streams[channel] += data
                if reply.status >= 0:
                    return streams[STDOUT], streams[STDERR], reply.status

    async def run(self, *arguments: str, **options: Any) -> tuple[bytes, bytes, int]:
        return await self.finish(await self.begin(*arguments, **options))


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    before = descriptors()
    beside = Beside()
    yield beside
    await beside.book.close()
    await until(lambda: descriptors() <= before)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def marked(mark: str) -> list[psutil.Process]:
    """Living processes with this word in their command line, however detached."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if mark in (process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo out; echo err >&2", (b"out\n", b"err\n", 0)),
        ("exit 3", (b"", b"", 3)),
        ("kill -TERM $$", (b"", b"", 128 + signal.SIGTERM)),
        ("cat", (b"", b"", 0)),
        ("printf '%s %s %s' $COLOR $CHOREGOS_AGENT $CHOREGOS_AGENT_UID", (b"blue team/web-0 u", b"", 0)),
        ("head -c 1000000 /dev/zero", (b"\0" * 1_000_000, b"", 0)),
    ],
)
async def test_a_command_has_streams_and_a_status(beside: Beside, script: str, expected: tuple[bytes, bytes, int]):
    assert await beside.run("sh", "-c", script) == expected


async def test_it_runs_where_the_worker_does_and_under_its_limits(beside: Beside):
    out, _, _ = await beside.run("sh", "-c", "pwd; ulimit -n; ulimit -c")
    files, core = resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_CORE)[0]
    shown = "unlimited" if core == resource.RLIM_INFINITY else str(core // 512)
    assert out.decode().split() == [str(Path.cwd()), str(files), shown]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("choregos-no-such-program",), 127, b"choregos-no-such-program: not found\n"),
        (("/etc/passwd",), 126, b"/etc/passwd: Permission denied\n"),
        (("/",), 126, b"/: Permission denied\n"),
    ],
)
async def test_what_cannot_be_run_says_so_as_a_shell_would(beside: Beside, arguments: Any, status: int, said: bytes):
    assert await beside.run(*arguments) == (b"", said, status)


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [((), "no name"), (("",), "no name"), (("a\0b",), "zero byte"), (("x", "y" * 3_000_000), "cannot be started")],
)
async def test_what_is_no_command_is_refused(beside: Beside, arguments: Any, refusal: str):
    assert refusal in (await beside.start(*arguments)).refusal


async def test_without_a_worker_there_is_nothing_to_run_beside(beside: Beside):
    assert "no worker" in (await beside.start("true", uid="stranger")).refusal
    beside.place = Place("team/web-0", {})
    assert "no worker" in (await beside.start("true")).refusal
    beside.place = Place("team/web-0", {}, "w1", 999_999_999)
    assert "cannot be looked at" in (await beside.start("true")).refusal


async def test_input_goes_in_and_its_end_too(beside: Beside):
    command = await beside.begin("sh", "-c", "cat; echo the end", stdin=True)
    for part in (b"one ", b"two "):
        await beside.write(command, part)
    await beside.write(command, b"three ", end=True)
    assert await beside.finish(command) == (b"one two three the end\n", b"", 0)


async def test_much_goes_through_and_back_while_neither_side_holds_much(beside: Beside):
    command = await beside.begin("cat", stdin=True)
    block = os.urandom(200_000)

    async def write() -> None:
        for _ in range(50):
            await beside.write(command, block)
        await beside.write(command, end=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        out, _, status = await beside.finish(command)
    assert (out == block * 50, status) == (True, 0)


async def test_a_command_that_nobody_reads_waits_and_loses_nothing(beside: Beside):
    loud = await beside.begin("sh", "-c", "head -c 2000000 /dev/zero; echo end >&2")
    assert await beside.run("echo", "others go on") == (b"others go on\n", b"", 0)
    process = beside.book._running[loud].process
    await until(lambda: process._output._paused)
    assert process._output._size < 2 * BUFFERED_BYTES_MAX
    out, err, status = await beside.finish(loud)
    assert (len(out), err, status) == (2_000_000, b"end\n", 0)


async def test_output_that_was_left_in_the_pipe_is_read_after_the_end(beside: Beside):
    command = await beside.begin("head", "-c", str(BUFFERED_BYTES_MAX + 50_000), "/dev/zero")
    process = beside.book._running[command].process
    await until(lambda: process._output._paused)
    out, _, status = await beside.finish(command)
    assert (len(out), status) == (BUFFERED_BYTES_MAX + 50_000, 0)


async def test_input_for_who_does_not_read_waits_and_ends_with_it(beside: Beside):
    command = await beside.begin("sleep", "600", stdin=True)
    first = await beside.write(command, b"x" * 200_000, wait_s=0.01)
    assert 0 < first.taken < 200_000
    assert (await beside.write(command, b"y", wait_s=0.01)).taken == 0
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(beside.write(command, b"x" * 200_000))
        await until(beside.book._running[command].writing.locked)
        assert not writing.done()
        await beside.book.answer(EndCommand(command))
    assert (await beside.finish(command))[2] == 128 + signal.SIGHUP
    gone = await beside.write(command, b"more")
    assert "has ended" in gone.refusal


async def test_a_terminal_is_one(beside: Beside):
    command = await beside.begin(
        "sh", "-c", "tty; stty size; read line; echo got $line $TERM", tty=True, stdin=True, columns=90, rows=33
    )
    await beside.write(command, b"hello\n")
    out, err, status = await beside.finish(command)
    assert (err, status) == (b"", 0)
    assert b"/dev/pts/" in out
    assert b"33 90" in out
    assert b"got hello xterm" in out


TYPIST = """
import os, signal, sys
signal.signal(signal.SIGWINCH, lambda *_: print("%d by %d" % os.get_terminal_size(), flush=True))
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
print("ready", flush=True)
for line in sys.stdin:
    pass
print("over", flush=True)
"""


async def test_a_terminal_can_be_resized_and_interrupted_and_its_input_ends(beside: Beside):
    command = await beside.begin(sys.executable, "-c", TYPIST, tty=True, stdin=True)
    seen = b""

    async def until_seen(text: bytes) -> None:
        nonlocal seen
        async with asyncio.timeout(PATIENCE_S):
            while text not in seen:
                seen += b"".join(data for _, data in (await beside.read(command)).output)

    await until_seen(b"ready")
    await beside.write(command, columns=71, rows=17)
    await until_seen(b"71 by 17")
    await beside.write(command, b"\x03")
    await until_seen(b"interrupted")
    await beside.write(command, end=True)
    await until_seen(b"over")


LEAVERS = {
    "in the background": "sleep 600 {mark} & exec sleep 0.1",
    "detached": "setsid sh -c 'sleep 600 {mark} & sleep 600 {mark}' & sleep 0.2",
    "as a daemon": "(setsid sh -c 'exec sleep 600 {mark}' &) ; sleep 0.2",
    "stubborn": "trap '' HUP TERM INT; sleep 600 {mark} & echo; sleep 0.1",
}


@pytest.mark.parametrize("script", LEAVERS.values(), ids=LEAVERS)
async def test_what_a_command_leaves_behind_goes_with_it(beside: Beside, script: str):
    mark = f"6{SystemIds().uid().replace('-', '')[:8]}".translate(str.maketrans("abcdef", "123456"))
    # A second number of seconds, by which its processes are known.
    command = await beside.begin("sh", "-c", script.format(mark=mark))
    await until(lambda: marked(mark))
    assert (await beside.finish(command))[2] == 0
    assert not marked(mark)


@pytest.mark.parametrize("how", ["ended", "silence", "agent gone", "book closed"])
async def test_a_command_that_nobody_wants_any_more_ends_with_all_it_has_started(beside: Beside, how: str):
    mark = f"7{SystemIds().uid().replace('-', '')[:8]}".translate(str.maketrans("abcdef", "123456"))
    command = await beside.begin("sh", "-c", f"trap '' HUP; setsid sleep 600 {mark} & sleep 600 {mark}")
    await until(lambda: len(marked(mark)) >= 2)
    if how == "ended":
        await beside.book.answer(EndCommand(command))
    elif how == "silence":
        beside.clock.ahead_s += SILENCE_S + 1
    elif how == "agent gone":
        beside.place = Place("team/web-0", {}, "w2", os.getpid())
    else:
        await beside.book.close()
    await until(lambda: not marked(mark))


async def test_who_still_reads_is_told_why_it_ended(beside: Beside):
    command = await beside.begin("sleep", "600")
    beside.place = None
    out, err, status = await beside.finish(command)
    assert (out, status) == (b"", 128 + signal.SIGHUP)
    assert b"the agent has left the worker" in err


async def test_when_its_node_is_killed_a_command_ends_with_all_it_has_started(beside: Beside):
    mark = f"8{SystemIds().uid().replace('-', '')[:8]}".translate(str.maketrans("abcdef", "123456"))
    node = f"""
import asyncio
from choregos.agent.commands.process import CommandProcess, Launch
async def main():
    script = "trap '' HUP TERM; setsid sleep 600 {mark} & sleep 600 {mark}"
    launch = Launch(("sh", "-c", script), {{"PATH": "/usr/bin:/bin"}}, "/", {os.getpid()})
    await CommandProcess(launch).run()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", node)
    await until(lambda: len(marked(mark)) >= 2)
    process.kill()
    await process.wait()
    await until(lambda: not marked(mark))


async def test_so_many_commands_and_no_more(beside: Beside, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(book_module, "COMMANDS_MAX", 2)
    commands = [await beside.begin("cat", stdin=True) for _ in range(2)]
    assert "2 commands run" in (await beside.start("true")).refusal
    await beside.write(commands[0], end=True)
    assert (await beside.finish(commands[0]))[2] == 0
    assert (await beside.run("true"))[2] == 0


async def test_output_is_handed_out_once(beside: Beside):
    command = await beside.begin("sh", "-c", "read line; echo $line", stdin=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(beside.read(command))
        await asyncio.sleep(0)
        second = group.create_task(beside.read(command))
        await asyncio.sleep(0)
        await beside.write(command, b"x\n")
    assert "being read already" in second.result().refusal
    assert first.result().output == ((STDOUT, b"x\n"),)


async def test_an_unknown_command_is_told_apart(beside: Beside):
    for reply in (await beside.read("x"), await beside.write("x"), await beside.book.answer(EndCommand("x"))):
        assert "has ended" in reply.refusal
