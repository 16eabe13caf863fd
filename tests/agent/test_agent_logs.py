"""Logs in memory: the newest lines, within bounds, and a follower waits for the next."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from choregos.agent.logs import LogBook
from choregos.wire.node import LogRequest


def texts(book: LogBook, uid: str, **options: int) -> list[str]:
    return [text for _, _, text in book.read(LogRequest(1, uid, **options)).lines]


def test_lines_come_in_order_with_time_and_level():
    book = LogBook(10_000, 100_000)
    book.append("a", 5, "INFO", "one")
    book.append("b", 6, "INFO", "other")
    book.append("a", 7, "ERROR", "two")
    reply = book.read(LogRequest(1, "a"))
    assert reply.known
    assert reply.lines == ((5, "INFO", "one"), (7, "ERROR", "two"))


def test_tail_since_and_after_choose_lines():
    book = LogBook(10_000, 100_000)
    for number in range(5):
        book.append("a", number, "INFO", str(number))
    assert texts(book, "a", tail_lines=2) == ["3", "4"]
    assert texts(book, "a", tail_lines=0) == []
    assert texts(book, "a", since_ms=3) == ["3", "4"]
    cursor = book.read(LogRequest(1, "a")).cursor
    assert texts(book, "a", after=cursor) == []
    book.append("a", 9, "INFO", "new")
    assert texts(book, "a", after=cursor) == ["new"]


def test_an_agent_that_never_spoke_is_unknown():
    assert not LogBook(10_000, 100_000).read(LogRequest(1, "a")).known


def test_each_start_of_an_agent_begins_a_log_and_the_one_before_is_kept():
    book = LogBook(10_000, 100_000)
    book.begin("a")
    for start in range(3):
        for number in range(2):
            book.append("a", number, "INFO", f"start {start} line {number}")
        book.append("b", 0, "INFO", "other")
        if start < 2:
            book.begin("a")
    assert texts(book, "a") == ["start 2 line 0", "start 2 line 1"]
    assert texts(book, "a", previous=True) == ["start 1 line 0", "start 1 line 1"]
    assert texts(book, "a", previous=True, tail_lines=1) == ["start 1 line 1"]
    book.begin("a")
    assert texts(book, "a") == []
    assert texts(book, "a", previous=True) == ["start 2 line 0", "start 2 line 1"]
    book.begin("a")
    assert texts(book, "a", previous=True) == []


def test_who_follows_reads_on_over_a_restart():
    book = LogBook(10_000, 100_000)
    book.append("a", 0, "INFO", "one")
    cursor = book.read(LogRequest(1, "a")).cursor
    book.append("a", 0, "INFO", "last words")
    book.begin("a")
    book.append("a", 0, "INFO", "again")
    assert texts(book, "a", after=cursor) == ["last words", "again"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 500)), max_size=200))
def test_the_bounds_hold(writes):
    book = LogBook(2_000, 6_000)
    for uid, length in writes:
        book.append(uid, 0, "INFO", "x" * length)
        kept = {uid: sum(map(len, texts(book, uid))) for uid in "abcdef"}
        assert max(kept.values()) <= 2_000
        assert sum(kept.values()) <= 6_000
        # The newest line is always there.
        assert texts(book, uid)


async def test_a_follower_gets_the_next_line():
    book = LogBook(10_000, 100_000)
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(book.follow(LogRequest(1, "a", wait_s=30.0)))
        await asyncio.sleep(0)
        book.append("b", 1, "INFO", "not this")
        book.append("a", 1, "INFO", "this")
    assert follower.result().lines == ((1, "INFO", "this"),)


async def test_a_follower_goes_home_when_nothing_is_said():
    reply = await LogBook(10_000, 100_000).follow(LogRequest(1, "a", wait_s=0.01))
    assert not reply.lines
