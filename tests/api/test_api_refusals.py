"""Whoever is refused again and again: it costs little, keeps nobody waiting, and neither hides what he is refused nor
pushes what was done out of the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client

from choregos.api.access import pace, repeats
from choregos.api.access.pace import RefusalLimits, RefusalPace
from choregos.api.access.repeats import Repeats
from choregos.api.context import ApiLimits
from choregos.api.rules.status import Refusal
from choregos.api.server import build_app
from choregos.security.backends.audit_memory import AuditMemory
from choregos.testing.sim_clock import SimClock

NODES = f"{GROUP}/agentnodes"
EVE = {"subject": ((("commonName", "eve"),),)}


# RefusalPace


async def given(pace: RefusalPace, clock: SimClock, who: str, seconds: int, loops: int = 1) -> tuple[int, int]:
    """How many refusals so many loops of one client are given within a time, and how many 429."""
    counts = [0, 0]
    ends_at = clock.monotonic() + seconds

    async def loop() -> None:
        while clock.monotonic() < ends_at:
            try:
                await pace.turn(who)
                counts[0] += 1
            except Refusal:
                counts[1] += 1
                await clock.sleep(1)

    running = [asyncio.ensure_future(loop()) for _ in range(loops)]
    while not all(each.done() for each in running):
        await clock.advance(0.1)
    return counts[0], counts[1]


async def test_the_first_are_given_at_once_and_then_so_many_in_a_second() -> None:
    clock = SimClock()
    limits = RefusalLimits(per_s=10, burst=30, wait_s=2)
    refused, asked_too_often = await given(RefusalPace(limits, clock), clock, "eve", 10)
    assert 30 + 100 - 2 <= refused <= 30 + 100 + 2
    assert asked_too_often == 0, "one after the other is only slow"


async def test_more_than_may_wait_are_told_to_come_later() -> None:
    clock = SimClock()
    limits = RefusalLimits(per_s=10, burst=30, wait_s=2)
    refused, asked_too_often = await given(RefusalPace(limits, clock), clock, "eve", 10, loops=100)
    assert refused <= 30 + 100 + 2 * 10 + 2
    assert asked_too_often > 100


async def test_nobody_else_is_slowed_and_a_pause_fills_the_budget() -> None:
    clock = SimClock()
    slow = RefusalPace(RefusalLimits(per_s=1, burst=5, wait_s=0), clock)
    for _ in range(5):
        await slow.turn("eve")
    with pytest.raises(Refusal) as refused:
        await slow.turn("eve")
    assert refused.value.code == 429
    await slow.turn("adam")
    await clock.advance(5)
    for _ in range(5):
        await slow.turn("eve")


async def test_budgets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "KNOWN_MAX", 3)
    slow = RefusalPace(RefusalLimits(per_s=1, burst=1, wait_s=0), SimClock())
    for number in range(10):
        await slow.turn(str(number))
    assert len(slow._full_at) == 3


# Repeats


def test_the_same_is_recorded_with_numbers_that_double() -> None:
    noted = Repeats(SimClock())
    found = [noted.note("x") for _ in range(1000)]
    assert [each for each in found if each is not None] == [2**power for power in range(10)]
    assert noted.note("y") == 1


async def test_after_a_while_it_is_recorded_as_at_first() -> None:
    clock = SimClock()
    noted = Repeats(clock)
    for _ in range(200):
        noted.note("x")
    await clock.advance(repeats.WINDOW_S + 1)
    assert noted.note("x") == 1


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "KNOWN_MAX", 5)
    noted = Repeats(SimClock())
    for number in range(50):
        assert noted.note(number) == 1
    assert len(noted._counts) == 5


# The server


@pytest.fixture
async def strict(world: Any) -> AsyncIterator[Client]:
    app = build_app(replace(world.context, limits=ApiLimits(refusals=RefusalLimits(per_s=1, burst=20, wait_s=0))))
    yield Client(app, ADMIN)
    await app.close()


@pytest.mark.parametrize("certificate", [EVE, None], ids=["known", "not known"])
async def test_a_loop_of_refusals_ends_in_429_and_leaves_a_few_lines(
    world: Any, strict: Client, certificate: Any
) -> None:
    eve = strict.as_(certificate)
    world.audit.events.clear()
    codes = [(await eve.get(f"{NODES}/n1")).code for _ in range(50)]
    assert (codes[0], codes[-1]) == (401 if certificate is None else 403, 429)
    assert 20 <= sum(code != 429 for code in codes) <= 25
    lines = [(each["responseStatus"]["code"], each["annotations"].get(repeats.REPEATED)) for each in world.audit.events]
    assert [count for code, count in lines if code == codes[0]] == [None, "2", "4", "8", "16"]
    assert [count for code, count in lines if code == 429] == [None, "2", "4", "8", "16"]
    assert all(event["annotations"]["authorization.k8s.io/decision"] == "forbid" for event in world.audit.events)
    assert (await strict.get(NODES)).code == 200
    reply = await eve.get(f"{NODES}/n1")
    assert (reply.code, reply.header("retry-after")) == (429, ["1"])


async def test_who_is_allowed_something_is_not_held_up_by_his_refusals(world: Any, strict: Client) -> None:
    eve = strict.as_(EVE)
    for _ in range(30):
        await eve.get(NODES)
    assert (await eve.get("/apis")).code == 200
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert (await eve.post(whoami, {})).code == 201


PROBES = [("get", "secrets", "key"), ("delete", "secrets", "key"), ("impersonate", "users", "admin")]


async def probe(eve: Client) -> list[int]:
    secret = "/api/v1/namespaces/blue/secrets/key"
    admin = eve.with_headers(**{"impersonate-user": "admin", "impersonate-group": "system:masters"})
    return [each.code for each in (await eve.get(secret), await eve.delete(secret), await admin.get(NODES))]


def told(audit: AuditMemory, code: int) -> list[tuple[str, str, str]]:
    """What was refused with this code, without how often."""
    about = [(event["verb"], event["objectRef"]) for event in audit.events if event["responseStatus"]["code"] == code]
    return [(verb, each["resource"], each.get("name", "")) for verb, each in about]


async def test_nobody_blinds_the_record_before_he_probes(world: Any) -> None:
    world.audit.events.clear()
    eve = world.client.as_(EVE)
    for number in range(300):
        assert (await eve.get(f"/api/v1/namespaces/n{number}/configmaps")).code == 403
    assert await probe(eve) == [403, 403, 403]
    assert len(world.audit.events) == 303, "each of them"
    assert told(world.audit, 403)[-3:] == PROBES


async def test_what_is_asked_beyond_the_budget_is_recorded_by_its_kind(world: Any, strict: Client) -> None:
    world.audit.events.clear()
    eve = strict.as_(EVE)
    while (await eve.get(f"/api/v1/namespaces/n{len(world.audit.events)}/configmaps")).code != 429:
        pass
    assert await probe(eve) == [429, 429, 429]
    assert told(world.audit, 429) == [("list", "configmaps", ""), *PROBES]
    before = len(world.audit.events)
    for number in range(200):
        secrets = f"/api/v1/namespaces/n{number}/secrets/s{number}"
        assert (await eve.get(secrets, anything=number)).code == 429
        assert (await eve.get(f"/apis/g{number}/v1/k{number}")).code == 429
    # Whatever he makes up: 1 and 2, 4, 8 … 128 of the one, and of the other.
    assert len(world.audit.events) - before <= 7 + 8


async def test_refusals_that_differ_in_anything_that_is_recorded_are_told_apart(world: Any) -> None:
    world.audit.events.clear()
    eve = world.client.as_(EVE)
    for number in range(3):
        await eve.get(NODES, limit=number)
        await eve.with_headers(**{"user-agent": f"probe/{number}"}).get(NODES)
    assert len(world.audit.events) == 6


async def test_refusals_are_in_no_file_with_what_was_done(world: Any) -> None:
    refused = AuditMemory()
    app = build_app(replace(world.context, audit_refused=refused))
    world.audit.events.clear()
    secrets = "/api/v1/namespaces/default/secrets"
    assert (await Client(app, EVE).post(secrets, {"metadata": {"name": "s"}})).code == 403
    assert (await Client(app, None).get(secrets)).code == 401
    assert (await Client(app, ADMIN).post(secrets, {"metadata": {"name": "s"}})).code == 201
    await app.close()
    assert [event["stage"] for event in world.audit.events] == ["RequestReceived", "ResponseComplete"]
    assert [event["responseStatus"]["code"] for event in refused.events] == [403, 401]
