"""`choregos rollout restart`, `pause` and `resume`: of a set, or of all sets of a cluster.

Each is a field of the set alone, which its cluster leaves as it is; so the manifest says the same as before.
"""

from __future__ import annotations

from typing import Any

from choregos.cli.output import show
from choregos.cli.rollout.targets import find, named, shown
from choregos.cli.session import Session
from choregos.client import Client, Object
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Permanent
from choregos.foundation.timestamp import rfc3339_micro


async def restart(*words: str, session: Session = Session()) -> None:  # noqa: B008  (immutable)
    """Replace all agents, as for a changed template.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …: `agentset/support-conversation`, `agentcluster/support`.
    """
    now = rfc3339_micro(SystemClock().wall_ms())
    async with session.connect() as client:
        sets = await _sets(client, words, session)
        for agent_set in sets:
            if agent_set["spec"].get("paused"):
                raise Permanent(f"{await shown(client, agent_set)} is paused; `choregos rollout resume` it first")
        for agent_set in sets:
            await _change(client, agent_set, {"restartedAt": now}, "restarted")


async def pause(*words: str, session: Session = Session()) -> None:  # noqa: B008
    """Have a changed template replace nobody until the rollout is resumed.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …: `agentset/support-conversation`, `agentcluster/support`.
    """
    async with session.connect() as client:
        for agent_set in await _sets(client, words, session):
            await _change(client, agent_set, {"paused": True}, "paused")


async def resume(*words: str, session: Session = Session()) -> None:  # noqa: B008
    """Go on with what was paused.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …: `agentset/support-conversation`, `agentcluster/support`.
    """
    async with session.connect() as client:
        for agent_set in await _sets(client, words, session):
            await _change(client, agent_set, {"paused": None}, "resumed")


async def _sets(client: Client, words: tuple[str, ...], session: Session) -> list[Object]:
    return [one for kind, name in named(words) for one in (await find(client, kind, name, session)).sets]


async def _change(client: Client, agent_set: Object, fields: dict[str, Any], done: str) -> None:
    metadata = agent_set["metadata"]
    await client.patch("agentset", metadata["name"], {"spec": fields}, namespace=metadata["namespace"])
    show(f"{await shown(client, agent_set)} {done}")
