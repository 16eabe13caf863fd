from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from choregos.api.node_ports import LogChoice
from choregos.wire.instances import Phase, StatusRecord

AGENTS = "/apis/choregos.dev/v1/namespaces/default/agents"
CALLS = "/apis/choregos.dev/v1/namespaces/default/agentcalls"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def test_agents_are_served_from_the_directory(world: Any) -> None:
    await world.start_agents(3)
    agent = (await world.client.get(f"{AGENTS}/web-1")).json
    assert agent["metadata"]["labels"]["choregos.dev/set"] == "web"
    assert agent["metadata"]["ownerReferences"][0]["uid"] == "web-uid"
    assert agent["spec"]["node"] == "n1"
    assert agent["spec"]["runtime"] == {"python": "m:C"}
    assert agent["status"]["phase"] == "Running"
    assert {each["type"]: each["status"] for each in agent["status"]["conditions"]} == {
        "Scheduled": "True",
        "Ready": "True",
    }
    assert (await world.client.get(f"{AGENTS}/web-9")).json["message"] == 'agents.choregos.dev "web-9" not found'


async def test_an_agent_without_a_node_says_why(world: Any) -> None:
    await world.start_agents(1, node="", ready=False)
    agent = (await world.client.get(f"{AGENTS}/web-0")).json
    assert agent["status"]["phase"] == "Pending"
    assert [each["status"] for each in agent["status"]["conditions"]] == ["False", "False"]
    assert "node" not in agent["spec"]


async def test_a_projected_agent_is_valid_by_its_own_schema(world: Any) -> None:
    from choregos.resources import registry, validation

    await world.start_agents(1)
    await world.start_agents(1, agent_set="idle", node="", ready=False)
    kind = registry.by_resource("agents")
    assert kind is not None
    for agent in (await world.client.get(AGENTS)).json["items"]:
        checked = validation.validate(kind, agent)
        assert not checked.unknown_fields


async def test_agents_come_in_chunks_tables_and_selections(world: Any) -> None:
    await world.start_agents(7)
    await world.start_agents(2, agent_set="idle", node="", ready=False)
    page = (await world.client.get(AGENTS, accept=TABLE, limit=5)).json
    assert len(page["rows"]) == 5
    assert page["metadata"]["remainingItemCount"] == 4
    ready = (await world.client.get(AGENTS, fieldSelector="status.phase=Running,spec.node=n1")).json
    assert len(ready["items"]) == 7
    idle = (await world.client.get(AGENTS, labelSelector="choregos.dev/set=idle")).json
    assert [item["metadata"]["name"] for item in idle["items"]] == ["idle-0", "idle-1"]


async def test_watching_agents_shows_them_come_up(world: Any) -> None:
    async with world.client.stream(AGENTS, watch="true") as stream:
        await world.start_agents(2)
        events = [await stream.line() for _ in range(4)]
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "MODIFIED", "MODIFIED"]
    assert events[3]["object"]["status"]["ready"] is True


async def test_deleting_an_agent_asks_its_region_to(world: Any) -> None:
    await world.start_agents(2)
    assert (await world.client.delete(f"{AGENTS}/web-0", {"preconditions": {"uid": "x"}})).code == 409
    assert (await world.client.delete(f"{AGENTS}/web-0", dryRun="All")).code == 200
    assert world.context.directory.get("default", "web-0").deletion is None
    assert (await world.client.delete(f"{AGENTS}/web-0", {"gracePeriodSeconds": 3})).code == 200
    assert world.context.directory.get("default", "web-0").deletion.grace_s == 3
    assert (await world.client.delete(AGENTS, labelSelector="tier=gold")).code == 200
    assert world.context.directory.get("default", "web-1").deletion.grace_s == 30


async def test_a_shorter_grace_period_overrules_a_longer_one_and_no_other_does(world: Any) -> None:
    await world.start_agents(2)
    path = f"{AGENTS}/web-0"

    async def asked(**body: int) -> int:
        assert (await world.client.delete(path, body or None)).code == 200
        return int(world.context.directory.get("default", "web-0").deletion.grace_s)

    assert [await asked(gracePeriodSeconds=600), await asked(), await asked(gracePeriodSeconds=900)] == [600] * 3
    assert await asked(gracePeriodSeconds=5) == 5
    assert (await world.client.delete(AGENTS, {"gracePeriodSeconds": 0})).code == 200
    assert [world.context.directory.get("default", f"web-{each}").deletion.grace_s for each in (0, 1)] == [0, 0]


async def test_the_log_of_an_agent_is_text(world: Any) -> None:
    await world.start_agents(1)
    log = await world.client.get(f"{AGENTS}/web-0/log")
    assert log.body == b"INFO line 1\nINFO line 2\n"
    assert log.header("content-type") == ["text/plain; charset=utf-8"]
    stamped = await world.client.get(f"{AGENTS}/web-0/log", tailLines=1, timestamps="true")
    assert stamped.body == b"1970-01-01T00:00:02.000000Z INFO line 2\n"


async def test_a_followed_log_goes_on_until_the_server_ends(world: Any) -> None:
    await world.start_agents(1)
    async with world.client.stream(f"{AGENTS}/web-0/log", follow="true") as stream:
        assert [await stream.raw_line() for _ in range(2)] == [b"INFO line 1", b"INFO line 2"]
        world.logs.more.set()
        assert await stream.raw_line() == b"INFO line 3"
        await world.app.close()
        assert await stream.raw_line() is None


async def test_a_followed_log_ends_with_its_agent(world: Any) -> None:
    await world.start_agents(2)
    async with world.client.stream(f"{AGENTS}/web-0/log", follow="true") as stream:
        world.logs.more.set()
        assert [await stream.raw_line() for _ in range(3)][2] == b"INFO line 3"
        world.logs.quiet.set()  # it is there, so the log goes on
        await world.writer.remove_agents([world.context.directory.get("default", "web-0")], world.fence)
        await world.context.directory.wait_for(world.writer.revision)
        world.logs.quiet.set()
        assert await stream.raw_line() is None


async def test_which_lines_of_a_log_is_the_clients_choice(world: Any) -> None:
    await world.start_agents(1)
    path = f"{AGENTS}/web-0/log"
    assert (await world.client.get(path, sinceTime="1970-01-01T00:00:05.5Z", tailLines=2)).code == 200
    assert world.logs.chosen == LogChoice(2, since_ms=5500)
    before_ms = world.context.clock.wall_ms()
    assert (await world.client.get(path, sinceSeconds=60)).code == 200
    assert before_ms - 60_000 <= world.logs.chosen.since_ms <= world.context.clock.wall_ms() - 60_000
    assert (await world.client.get(path, limitBytes=15)).body == b"INFO line 1\nINF"
    assert (await world.client.get(path, limitBytes=12)).body == b"INFO line 1\n"
    assert (await world.client.get(path, sinceTime="yesterday")).code == 400
    both = await world.client.get(path, sinceTime="1970-01-01T00:00:05Z", sinceSeconds=1)
    assert (both.code, "at most one of" in both.json["message"]) == (422, True)


async def test_the_log_of_a_previous_instance_needs_a_restart(world: Any) -> None:
    await world.start_agents(1)
    path = f"{AGENTS}/web-0/log"
    refused = await world.client.get(path, previous="true")
    assert (refused.code, "has not been restarted" in refused.json["message"]) == (400, True)
    record = world.context.directory.get("default", "web-0").record
    again = StatusRecord(1, record.uid, record.binding, Phase.RUNNING, True, "host-2", 1, 3_000_000)
    await world.writer.put_statuses([("default", "web-0", again)])
    await world.context.directory.wait_for(world.writer.revision)
    assert (await world.client.get(path, previous="true")).code == 200
    assert world.logs.chosen.previous


@pytest.mark.parametrize(
    ("phase", "restarts", "reason", "said"),
    [
        (None, 0, "", "Assigned"),
        (Phase.PENDING, 0, "RuntimeNotFound", "RuntimeNotFound: how to provide it"),
        (Phase.PENDING, 1, "NodeRestarted", ""),
        (Phase.BACKOFF, 0, "ImportFailed", ""),
        (Phase.RUNNING, 0, "Started", ""),
    ],
)
async def test_why_an_agent_has_no_log_yet_is_said(
    world: Any, phase: Phase | None, restarts: int, reason: str, said: str
) -> None:
    await world.start_agents(1, ready=False)
    record = world.context.directory.get("default", "web-0").record
    if phase is not None:
        status = StatusRecord(
            1, record.uid, record.binding, phase, False, "", restarts, 3_000_000, reason, "how to provide it"
        )
        await world.writer.put_statuses([("default", "web-0", status)])
        await world.context.directory.wait_for(world.writer.revision)

    for kind, path in (("agent", AGENTS), ("pod", "/api/v1/namespaces/default/pods")):
        # What was logged before is shown, whatever the agent waits for now.
        assert (await world.client.get(f"{path}/web-0/log", tailLines=1)).body == b"INFO line 2\n"
        empty = await world.client.get(f"{path}/web-0/log", tailLines=0)
        if said:
            told = f'container "agent" in {kind} "web-0" is waiting to start: {said}'
            assert (empty.code, empty.json["message"]) == (400, told)
        else:
            assert (empty.code, empty.body) == (200, b"")


async def test_the_log_of_a_pod_is_that_of_its_agent(world: Any) -> None:
    await world.start_agents(1)
    path = "/api/v1/namespaces/default/pods/web-0/log"
    assert (await world.client.get(path, container="agent", tailLines=1)).body == b"INFO line 2\n"
    refused = await world.client.get(path, container="other")
    assert (refused.code, refused.json["message"][:46]) == (400, "container other is not valid for pod web-0; it")


async def test_a_log_that_cannot_be_read_is_a_status(world: Any) -> None:
    await world.start_agents(1, agent_set="far", node="gone")
    await world.start_agents(1, agent_set="idle", node="", ready=False)
    assert (await world.client.get(f"{AGENTS}/far-0/log")).code == 503
    assert (await world.client.get(f"{AGENTS}/idle-0/log")).code == 400
    assert (await world.client.get(f"{AGENTS}/none-0/log")).code == 404
    async with world.client.stream(f"{AGENTS}/far-0/log", follow="true") as stream:
        assert await stream.raw_line() == b"error: node gone cannot be reached"


async def test_a_call_answers_with_its_result(world: Any) -> None:
    spec = {
        "capability": "serve",
        "selector": "tier=gold",
        "method": "echo",
        "arguments": {"n": 1},
        "timeoutSeconds": 9,
    }
    made = await world.client.post(CALLS, {"spec": spec})
    assert made.code == 201, made.json
    assert made.json["status"]["result"] == {"echo": {"n": 1}}
    assert made.json["status"]["agent"] == "a-0"
    assert made.json["status"]["durationMilliseconds"] >= 0
    seen = world.caller.seen[0]
    assert (seen["caller"], seen["namespace"], seen["timeout_s"]) == ("admin", "default", 9.0)
    assert (seen["capability"], seen["selector"], seen["agent"]) == ("serve", "tier=gold", "")


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (b"hi", {"result": "aGk="}),
        ({"data": [b"hi"], 3: 1.5}, {"result": {"data": ["aGk="], "3": 1.5}}),
        (datetime(2026, 11, 22, tzinfo=UTC), {"result": "2026-11-22T00:00:00Z"}),
        ("", {"result": ""}),
        (0, {"result": 0}),
        (None, {}),
    ],
)
async def test_results_are_shown_as_json_says_them(world: Any, result: Any, shown: dict[str, Any]) -> None:
    world.caller.result = result
    made = await world.client.post(CALLS, {"spec": {"agent": "a-0", "method": "fixed"}})
    status = made.json["status"]
    assert {name: status[name] for name in status if name in ("result", "error")} == shown


@pytest.mark.parametrize("result", [{(1, 2): 3}, msgspec.msgpack.Ext(5, b"x")])
async def test_a_result_that_json_cannot_say_is_an_error_of_the_call(world: Any, result: Any) -> None:
    world.caller.result = result
    made = await world.client.post(CALLS, {"spec": {"agent": "a-0", "method": "fixed"}})
    assert made.code == 201
    error = made.json["status"]["error"]
    assert (error["code"], error["type"]) == ("HandlerFailed", "TypeError")
    assert "the result cannot be said in JSON" in error["message"]


async def test_a_call_that_failed_is_answered_with_its_error(world: Any) -> None:
    made = await world.client.post(CALLS, {"spec": {"agent": "a-0", "method": "HandlerFailed"}})
    assert made.code == 201
    error = made.json["status"]["error"]
    assert (error["code"], error["type"], error["traceback"]) == ("HandlerFailed", "KeyError", "Traceback …")
    assert "result" not in made.json["status"]


async def test_a_call_that_makes_no_sense_is_refused(world: Any) -> None:
    assert (await world.client.post(CALLS, {"spec": {"method": "echo"}})).code == 422
    elsewhere = CALLS.replace("default", "nowhere")
    assert (await world.client.post(elsewhere, {"spec": {"agent": "a-0", "method": "echo"}})).code == 404
    dry = await world.client.post(CALLS, {"spec": {"agent": "a-0", "method": "echo"}}, dryRun="All")
    assert dry.code == 201
    assert not world.caller.seen


async def test_a_client_that_goes_away_cancels_its_call(world: Any) -> None:
    await world.client.abandon(CALLS, {"spec": {"agent": "a-0", "method": "hang"}}, world.caller.started)
    assert world.caller.cancelled.is_set()


async def test_a_call_that_outlasts_the_servers_end_is_told_so(world: Any) -> None:
    call = asyncio.ensure_future(world.client.post(CALLS, {"spec": {"agent": "a-0", "method": "hang"}}))
    await world.caller.started.wait()
    await world.app.close()
    call.cancel()  # as uvicorn does when the time is over
    reply = await call
    assert reply.code == 503
    assert reply.json["reason"] == "ServiceUnavailable"
    assert world.caller.cancelled.is_set()
