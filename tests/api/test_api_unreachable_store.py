"""What is answered while the store cannot be reached: those who show nothing valid, and whoever asks for health."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import pytest
from joserfc.jwk import OKPKey

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
