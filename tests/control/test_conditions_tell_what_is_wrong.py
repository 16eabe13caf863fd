"""What is wrong with agents is told by their set and their cluster: which, how many, why, and in an event."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from control_world import SimNode, World, cluster, controllers, memory_world

from choregos.control.region.set_status import gist
from choregos.wire.instances import Phase
from choregos.wire.worker import RUNTIME_NOT_FOUND

TRACEBACK = """importing 'shop.agents' failed
Traceback (most recent call last):
  File "/srv/shop/agents.py", line 3, in <module>
    import nltk
    ~~~~~~~^^^^
ModuleNotFoundError: No module named 'nltk'"""

MANY_LINES = """Traceback (most recent call last):
  File "a.py", line 1, in on_start
    load()
ValidationError: 2 errors for Settings
url
  Field required"""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world, controllers(world):
        yield world


@pytest.fixture
async def node(world: World) -> AsyncIterator[SimNode]:
    async with SimNode(world, "node-a") as node:
        await world.until(lambda: world.condition("agentnodes", "node-a", "Ready") == "True")
        yield node


def told_of(world: World, reason: str) -> set[str]:
    """Kinds of the objects that there are events of this reason about."""
    events = world.events.list("events").items
    return {event["involvedObject"]["kind"] for event in events if event["reason"] == reason}


@pytest.mark.parametrize(
    ("phase", "reason", "message", "told"),
    [
        (Phase.PENDING, RUNTIME_NOT_FOUND, "no installed package offers an agent 'x'", None),
        (Phase.PENDING, "TemplateUnreadable", "this node cannot read its template", None),
        (Phase.BACKOFF, "ImportFailed", TRACEBACK, "ModuleNotFoundError: No module named 'nltk'"),
        (
            Phase.BACKOFF,
            "Crashed",
            "worker a-1 ended: killed by SIGSEGV\nlast words",
            "worker a-1 ended: killed by SIGSEGV",
        ),
        (Phase.STARTING, "StartFailed", MANY_LINES, "ValidationError: 2 errors for Settings"),
        (Phase.RUNNING, "NotReady", "ready() said False 3 times", None),
    ],
)
async def test_a_failing_agent_is_told_on_every_level_and_forgotten_once_it_is_well(
    world: World, node: SimNode, phase: Phase, reason: str, message: str, told: str | None
) -> None:
    node.fails = {f"support-knowledge-{ordinal}": (phase, reason, message) for ordinal in (1, 2)}
    await world.create("agentclusters", cluster(conversation=1, knowledge=3))
    expected = f"2 agents fail with {reason}, as support-knowledge-1 on node-a: {told or message}"
    await world.until(lambda: world.message("agentclusters", "support").startswith("AgentsFailing"))
    await world.until(lambda: world.message("agentclusters", "support", "Progressing").startswith("Failing"))
    assert world.message("agentsets", "support-knowledge") == f"AgentsFailing: 1 of 3 agents take calls; {expected}"
    assert world.message("agentclusters", "support") == (
        f"AgentsFailing: 2 of 4 agents take calls; support-knowledge: 1 of 3 agents take calls; {expected}"
    )
    assert world.message("agentsets", "support-knowledge", "Progressing") == (
        "Failing: 2 agents are failing, and tried again after a delay"
    )
    await world.until(lambda: told_of(world, "AgentsFailing") == {"AgentSet", "AgentCluster"})
    node.start_all()
    await world.until(lambda: world.message("agentclusters", "support").startswith("AllAgentsReady"))
    await world.until(lambda: told_of(world, "Ready") == {"AgentSet", "AgentCluster"})


async def test_what_most_suffer_comes_first(world: World, node: SimNode) -> None:
    node.fails = {"support-work-0": (Phase.BACKOFF, "Crashed", "it fell")}
    for ordinal in range(2, 5):
        node.fails[f"support-work-{ordinal}"] = (Phase.RUNNING, "NotReady", "not yet")
    await world.create("agentclusters", cluster(work=5))
    expected = (
        "AgentsFailing: 1 of 5 agents take calls; 3 agents fail with NotReady, as support-work-2 on node-a: not yet; "
        "1 agent fails with Crashed, as support-work-0 on node-a: it fell"
    )
    await world.until(lambda: world.message("agentsets", "support-work") == expected)


async def test_what_fits_nowhere_is_its_clusters_verdict_too(world: World, node: SimNode) -> None:
    manifest = cluster(small=1)
    manifest["spec"]["agents"].insert(0, {"name": "starting", "replicas": 1})
    manifest["spec"]["agents"].append({"name": "large", "replicas": 2, "resources": {"cpu": "64"}})
    node.fails = {"support-starting-0": (Phase.STARTING, "", "")}
    await world.create("agentclusters", manifest)
    await world.until(lambda: world.message("agentclusters", "support").startswith("Unschedulable"))
    message = world.message("agentclusters", "support")
    assert "support-large: 0 of 2 agents take calls; 2 have no node: 0/1 nodes fit" in message
    assert "nearest fit: node-a lacks" in message
    await world.until(lambda: world.event_messages("Unschedulable"))


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", ""),
        ("one line", "one line"),
        ('kept the event loop for 10 s\n  File "a.py", line 1, in f', "kept the event loop for 10 s"),
        (TRACEBACK, "ModuleNotFoundError: No module named 'nltk'"),
        (MANY_LINES, "ValidationError: 2 errors for Settings"),
        ('Traceback (most recent call last):\n  File "a.py", line 1', '  File "a.py", line 1'),
        ("x" * 1000, "x" * 300 + "…"),
    ],
)
def test_the_gist_of_a_message_is_the_line_that_says_what_is_wrong(message: str, line: str) -> None:
    assert gist(message) == line
