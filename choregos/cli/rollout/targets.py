"""Which sets a command line means: an AgentSet, or all those of an AgentCluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from choregos.cli.session import Session
from choregos.cli.words import UsageError, parse_targets
from choregos.client import Client, Object
from choregos.resources import meta

CLUSTER, SET = "AgentCluster", "AgentSet"


@dataclass(frozen=True, slots=True)
class Rolled:
    """
    Attributes:
        object: what was named: a set or a cluster.
        sets: it, or those that belong to it, by name.
    """

    object: Object
    sets: Sequence[Object]


def named(words: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, name) of each object that the words name.

    Raises:
        UsageError: they name none.
    """
    targets = parse_targets(words)
    if not targets[0][1]:
        raise UsageError(f"say which of the {words[0]}: a name")
    return targets


async def kind_of(client: Client, word: str) -> str:
    """`AgentCluster` or `AgentSet`.

    Raises:
        UsageError: the word means neither.
    """
    kind = (await client.catalogue()).by_word(word).kind
    if kind not in (CLUSTER, SET):
        raise UsageError(f"there is no rollout of {word}; name an agentset or an agentcluster")
    return kind


async def find(client: Client, word: str, name: str, session: Session) -> Rolled:
    """The object named, and the sets it stands for.

    Raises:
        NotFound: it does not exist.
    """
    found = await client.get(await kind_of(client, word), name, namespace=session.namespace)
    if found["kind"] == SET:
        return Rolled(found, [found])
    return Rolled(found, await sets_of(client, found))


async def sets_of(client: Client, cluster: Object) -> list[Object]:
    """A cluster's own sets."""
    selector = f"{meta.CLUSTER_LABEL}={cluster['metadata']['name']}"
    found = await client.list(SET, namespace=cluster["metadata"]["namespace"], selector=selector)
    return [one for one in found if belongs_to(one, cluster)]


def belongs_to(obj: Object, owner: Object) -> bool:
    references = obj["metadata"].get("ownerReferences") or ()
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in references)


async def shown(client: Client, obj: Object) -> str:
    """`agentset.choregos.dev/work`."""
    resource = (await client.catalogue()).by_kind(obj["apiVersion"], obj["kind"])
    return f"{resource.qualified}/{obj['metadata']['name']}"
