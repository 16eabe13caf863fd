"""`choregos rollout history` and `undo`: the templates a set has had, and back to one of them."""

from __future__ import annotations

from choregos.cli.output import print_table, print_yaml, show
from choregos.cli.rollout.progress import observed
from choregos.cli.rollout.targets import belongs_to, find, named, shown
from choregos.cli.rollout.undoing import chosen, undone_cluster, undone_set
from choregos.cli.session import Session
from choregos.cli.words import UsageError
from choregos.client import Client, Object
from choregos.foundation.clock import Clock, SystemClock
from choregos.foundation.errors import Conflict, NotFound, Permanent, Temporary
from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject
from choregos.scheduling.revisions import by_number, number_of, template_of

ATTEMPTS_MAX = 5
OBSERVED_WITHIN_S = 15.0
POLL_S = 0.2


async def history(*words: str, revision: int = 0, session: Session = Session()) -> None:  # noqa: B008  (immutable)
    """Show the templates that sets have had, the oldest first.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …: `agentset/support-conversation`, `agentcluster/support`.
    revision
        Show the template of this revision.
    """
    async with session.connect() as client:
        shown_any = False
        for kind, name in named(words):
            for agent_set in (await find(client, kind, name, session)).sets:
                kept = by_number(await _revisions(client, agent_set))
                if revision:
                    kept = [one for one in kept if number_of(one) == revision]
                    if not kept:
                        continue
                if shown_any:
                    show("")
                shown_any = True
                title = await shown(client, agent_set)
                if revision:
                    show(f"{title} with revision {revision}, {_cause(kept[0])}")
                    print_yaml(template_of(kept[0]))
                else:
                    show(title)
                    print_table(("Revision", "Change-Cause"), [(number_of(one), _cause(one)) for one in kept])
        if revision and not shown_any:
            raise NotFound(f"there is no revision {revision} of {' '.join(words)}")


async def undo(*words: str, to_revision: int = 0, session: Session = Session()) -> None:  # noqa: B008
    """Go back to an earlier template of a set.

    Of a set that belongs to a cluster, the cluster's manifest is changed. A cluster can be named where it has one set.

    Parameters
    ----------
    words
        KIND NAME or KIND/NAME: `agentset/support-conversation`.
    to_revision
        A number that `rollout history` shows; by default the one before.
    """
    targets = named(words)
    if len(targets) != 1:
        raise UsageError("one set can go back at a time")
    async with session.connect() as client:
        sets = (await find(client, *targets[0], session)).sets
        if len(sets) != 1:
            names = " ".join(f"agentset/{one['metadata']['name']}" for one in sets) or "none"
            raise UsageError(f"each set has a history of its own; name one of: {names}")
        show(await _undo(client, sets[0], to_revision))


async def _undo(client: Client, agent_set: Object, number: int) -> str:
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return await _undo_once(client, agent_set, number)
        except Conflict:
            # Somebody has changed it between our look and our write: look again.
            if attempt == ATTEMPTS_MAX:
                raise
    raise AssertionError


async def _undo_once(client: Client, named_set: Object, number: int) -> str:
    metadata = named_set["metadata"]
    cluster = await _cluster_of(client, named_set)
    # After the cluster was seen to be observed, so the set is as the cluster has it.
    agent_set = await client.get("agentset", metadata["name"], namespace=metadata["namespace"])
    title = await shown(client, agent_set)
    if agent_set["spec"].get("paused"):
        raise Permanent(f"{title} is paused; `choregos rollout resume` it first")
    revision = chosen(agent_set, await _revisions(client, agent_set), number)
    if template_of(revision) == agent_set["spec"]["template"]:
        return f"{title} stays as it is: it declares revision {number_of(revision)} already"
    if cluster is None:
        await client.replace(undone_set(agent_set, revision))
        return f"{title} rolled back to revision {number_of(revision)}"
    await client.replace(undone_cluster(cluster, agent_set, revision))
    return f"{title} rolled back to revision {number_of(revision)}, in the manifest of {await shown(client, cluster)}"


async def _cluster_of(client: Client, agent_set: Object, clock: Clock | None = None) -> Object | None:
    """The cluster that a set is made from, once its sets are as it says; None if it has none.

    Raises:
        Temporary: nobody has looked at the cluster's latest change.
    """
    clock = clock or SystemClock()
    name, namespace = agent_set["spec"].get("cluster"), agent_set["metadata"]["namespace"]
    give_up = clock.monotonic() + OBSERVED_WITHIN_S
    while name:
        try:
            cluster = await client.get("agentcluster", name, namespace=namespace)
        except NotFound:
            return None
        if not belongs_to(agent_set, cluster):
            return None
        if observed(cluster).done:
            return cluster
        if clock.monotonic() > give_up:
            raise Temporary(f"no controller has seen the latest change of agentcluster {name} yet; try again")
        await clock.sleep(POLL_S)
    return None


async def _revisions(client: Client, agent_set: Object) -> list[Object]:
    metadata = agent_set["metadata"]
    found = await client.list(
        "controllerrevisions.apps",
        namespace=metadata["namespace"],
        selector=f"{meta.SET_LABEL}={metadata['name']}",
    )
    return [one for one in found if belongs_to(one, agent_set)]


def _cause(revision: ReadOnlyObject) -> str:
    return meta.change_cause(revision) or "<none>"
