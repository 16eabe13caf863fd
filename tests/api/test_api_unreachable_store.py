"""What is answered while the store cannot be reached: those who show nothing valid, and whoever asks for health."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import pytest
from joserfc.jwk import OKPKey

from choregos.api.handlers import health
from choregos.foundation.errors import Temporary
from choregos.security.tokens import Bound, Tokens

AGENTSETS = "/apis/choregos.dev/v1/agentsets"
ACCOUNT = Bound("late", "its-uid")


@pytest.fixture
def catch_up(world: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """Asking the store, which cannot be reached."""
    asked = AsyncMock(side_effect=Temporary("the store stands still"))
    monkeypatch.setattr(world.context.resources, "catch_up", asked)
    return asked


@pytest.mark.parametrize("shown", ["", "Basic eDp5", "Bearer x", "Bearer a.b.c", "forged", "expired"])
async def test_who_shows_nothing_valid_is_refused_without_asking_it(
    world: Any, catch_up: AsyncMock, shown: str
) -> None:
    clock, ids = world.context.clock, world.context.ids
    if shown == "forged":
        shown = f"Bearer {Tokens(OKPKey.generate_key('Ed25519'), clock, ids).issue('default', ACCOUNT, life_s=600)[0]}"
    elif shown == "expired":
        shown = f"Bearer {world.context.tokens.issue('default', ACCOUNT, life_s=-600)[0]}"
    client = world.client.as_(None).with_headers(authorization=shown)
    assert (await client.get(AGENTSETS)).code == 401
    assert not catch_up.await_count


async def test_it_is_asked_about_a_token_whose_account_is_not_here(world: Any, catch_up: AsyncMock) -> None:
    token, _ = world.context.tokens.issue("default", ACCOUNT, life_s=600)
    client = world.client.as_(None).with_headers(authorization=f"Bearer {token}")
    assert (await client.get(AGENTSETS)).code == 401
    assert catch_up.await_count == 1


CHECKED = "[+]ping ok\n[+]store ok\nreadyz check passed\n"
FAILED = "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n"


async def test_a_server_that_cannot_reach_it_lives_and_is_not_ready(world: Any, catch_up: AsyncMock) -> None:
    nobody = world.client.as_({"subject": ((("commonName", "nobody"),),)})
    for path in ("/healthz", "/livez"):
        assert (await nobody.get(path)).body == b"ok"
    reply = await nobody.get("/readyz")
    assert (reply.code, reply.body.decode()) == (500, FAILED)
    catch_up.side_effect = None
    reply = await nobody.get("/readyz")
    assert (reply.code, reply.body) == (200, b"ok")
    assert (await world.client.as_(None).get("/readyz")).code == 401


async def test_one_that_waits_for_it_says_so_soon(
    world: Any, catch_up: AsyncMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stand_still() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "STORE_S", 0.05)
    catch_up.side_effect = stand_still
    assert (await world.client.get("/readyz")).code == 500


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_all_checks_are_listed_on_demand(client: Any, path: str) -> None:
    assert (await client.get("/readyz", verbose="")).body.decode() == CHECKED
    reply = await client.get(path, verbose="true")
    assert reply.body.decode() == f"[+]ping ok\n{path[1:]} check passed\n"
