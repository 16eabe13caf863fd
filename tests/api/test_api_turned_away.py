"""The operator learns whose requests are turned away, and is not told of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from api_world import ADMIN, Client

from choregos.api.context import ApiLimits
from choregos.api.server import build_app
from choregos.api.sharing.turned_away import FLOWS_MAX, PERIOD_S, TurnedAway
from choregos.testing import SimClock


async def test_a_flow_has_one_line_in_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = SimClock()
    turned_away = TurnedAway(clock)
    for _ in range(1000):
        turned_away.note("ta/", "512 requests of ta/ wait already")
    turned_away.note("eve", "busy")
    assert caplog.messages == [
        "requests of ta/ are turned away: 512 requests of ta/ wait already",
        "requests of eve are turned away: busy",
    ]
    caplog.clear()
    await clock.advance(PERIOD_S)
    turned_away.note("ta/", "again")
    assert caplog.messages == ["requests of ta/ are turned away: again"]


def test_however_many_flows_there_are(caplog: pytest.LogCaptureFixture) -> None:
    turned_away = TurnedAway(SimClock())
    for number in range(10 * FLOWS_MAX):
        turned_away.note(f"flow-{number}", "busy")
    assert len(caplog.messages) == FLOWS_MAX + 1
    assert caplog.messages[-1] == "requests of others are turned away: busy"


async def test_an_answer_of_429_is_noted(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = build_app(replace(world.context, limits=ApiLimits(streams_max=0)))
    for _ in range(3):
        assert (await Client(app, ADMIN).get("/api/v1/namespaces", watch="true")).code == 429
    assert [each.partition(":")[0] for each in caplog.messages] == ["requests of admin are turned away"]
    await app.close()
