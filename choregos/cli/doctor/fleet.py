"""Checks of what runs: the bus and its JetStream, the API server, the nodes, the agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

from choregos.cli.doctor.directory import DataState
from choregos.cli.doctor.finding import Finding, fail, ok, warn
from choregos.cli.session import Session
from choregos.client import Client, Object
from choregos.foundation.errors import ChoregosError, NotFound

REASONS_SHOWN_MAX = 5
BUS_TIMEOUT_S = 5.0

LOOK_INTO_LOGS = "Look into {root}/logs."


async def check_fleet(state: DataState, session: Session) -> AsyncIterator[Finding]:
    if state.running:
        yield await _jetstream(state)
    try:
        client = session.connect()
    except NotFound as error:
        yield warn("API server", str(error).partition(". Start")[0], "Start a fleet here with `choregos up`.")
        return
    except ChoregosError as error:
        yield fail("API server", str(error), "Correct the kubeconfig, or name another with --kubeconfig.")
        return
    async with client:
        try:
            version = await client.version()
        except ChoregosError as error:
            yield _unreachable(state, error)
            return
        yield ok("API server", f"{client.server} answers, version {version.get('gitVersion', 'unknown')}")
        async for finding in _nodes(client, state):
            yield finding
        async for finding in _agents(client):
            yield finding


async def _jetstream(state: DataState) -> Finding:
    from nats.errors import Error
    from nats.js.errors import Error as JetStreamError

    from choregos.foundation.bus.connection import BusAddress, connect
    from choregos.foundation.ids import SystemIds
    from choregos.security.credentials import BusUser, load_or_create

    remedy = LOOK_INTO_LOGS.format(root=state.root)
    credentials_file = state.root / "nats" / "credentials.json"
    if not credentials_file.exists():
        return fail("JetStream", f"{credentials_file} does not exist", "Restart `choregos up`: it makes new ones.")
    try:
        credentials = load_or_create(credentials_file, SystemIds())
        address = BusAddress(state.bus_servers, BusUser.CONTROL, credentials.control)
        async with connect(address, "doctor", timeout_s=BUS_TIMEOUT_S) as bus:
            account = await bus.client.jetstream(timeout=BUS_TIMEOUT_S).account_info()
    except (ChoregosError, Error, JetStreamError, OSError) as error:
        return fail("JetStream", str(error) or type(error).__name__, remedy)
    return ok("JetStream", f"{account.streams} streams, {account.storage / 2**20:.1f} MiB stored")


def _unreachable(state: DataState, error: ChoregosError) -> Finding:
    if state.running:
        return fail("API server", str(error), LOOK_INTO_LOGS.format(root=state.root))
    return warn("API server", str(error), "Nothing runs here now; start it with `choregos up`.")


async def _nodes(client: Client, state: DataState) -> AsyncIterator[Finding]:
    nodes = await client.list("agentnodes")
    if not nodes:
        yield fail("nodes", "there is none", LOOK_INTO_LOGS.format(root=state.root))
    for node in nodes:
        check, ready = f"node {node['metadata']['name']}", _condition(node, "Ready")
        if ready.get("status") != "True":
            why = ready.get("message") or ready.get("reason") or "it has not reported yet"
            yield fail(check, f"not ready: {why}", LOOK_INTO_LOGS.format(root=state.root))
        elif (node.get("spec") or {}).get("unschedulable"):
            remedy = f'kubectl patch agentnode {node["metadata"]["name"]} -p \'{{"spec":{{"unschedulable":false}}}}\''
            yield warn(check, "ready, but takes no new agents", f"To let it: `{remedy} --type=merge`.")
        else:
            yield ok(check, f"ready, {(node.get('status') or {}).get('agents', 0)} agents")


async def _agents(client: Client) -> AsyncIterator[Finding]:
    agents = await client.list("agents", namespace="")
    failing = [agent for agent in agents if not (agent.get("status") or {}).get("ready")]
    if not failing:
        yield ok("agents", f"{len(agents)} of {len(agents)} ready")
        return
    examples: dict[str, Object] = {}
    for agent in failing:
        examples.setdefault(_reason(agent), agent)
    for reason, count in Counter(map(_reason, failing)).most_common(REASONS_SHOWN_MAX):
        example = examples[reason]
        name, namespace = example["metadata"]["name"], example["metadata"]["namespace"]
        message = str((example.get("status") or {}).get("message") or "").strip().rpartition("\n")[2]
        yield warn(
            "agents",
            f"{count} of {len(agents)} not ready: {reason}" + (f": {message}" if message else ""),
            f"See `choregos describe agent {name} -n {namespace}` for one of them.",
        )


def _reason(agent: Mapping[str, Any]) -> str:
    status = agent.get("status") or {}
    return str(status.get("reason") or status.get("phase") or "Pending")


def _condition(obj: Mapping[str, Any], type: str) -> Mapping[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == type), {})
