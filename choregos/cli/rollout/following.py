"""`choregos rollout status`: tells how far a rollout is, until it is done or has failed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from choregos.cli.output import show
from choregos.cli.rollout.progress import Progress, cluster_progress, observed, set_progress
from choregos.cli.rollout.targets import CLUSTER, SET, belongs_to, kind_of, named
from choregos.cli.session import Session
from choregos.cli.words import UsageError, parse_duration
from choregos.client import Client, Object
from choregos.foundation.errors import NotFound, Permanent, TimedOut
from choregos.foundation.timeout import timeout as time_limit
from choregos.resources import meta


async def status(
    *words: str,
    watch: bool = True,
    timeout: str = "",
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Tell how far a rollout is, until it is done.

    Ends with exit code 1 once a rollout has got no further for its progressDeadlineSeconds.

    Parameters
    ----------
    words
        KIND NAME or KIND/NAME: `agentset/support-conversation`, `agentcluster/support`.
    watch
        `--watch=false`: say how far it is now, and end.
    timeout
        How long to wait: `30s`, `5m`; by default as long as it takes.
    """
    targets = named(words)
    if len(targets) != 1:
        raise UsageError("one rollout can be followed at a time")
    (kind, name) = targets[0]
    limit_s = parse_duration(timeout) if timeout else None
    async with session.connect() as client:
        follower = _Follower(client, session.namespace, wait=watch)
        try:
            async with time_limit(limit_s or None):
                if await kind_of(client, kind) == CLUSTER:
                    await follower.cluster(name)
                else:
                    await follower.set(name)
        except TimeoutError as error:
            raise TimedOut(f"not within {timeout}: {'; '.join(follower.waiting)}") from error


class _Follower:
    """Prints each message once.

    Attributes:
        waiting: what it waits for, in words.
    """

    def __init__(self, client: Client, namespace: str | None, *, wait: bool) -> None:
        self._client = client
        self._namespace = namespace
        self._wait = wait
        self._said: dict[tuple[str, str], str] = {}
        self.waiting: Sequence[str] = ()

    async def set(self, name: str) -> None:
        """One set, once its cluster, if it has one, has made it as the manifest says."""
        agent_set = await self._client.get(SET, name, namespace=self._namespace)
        if cluster := agent_set["spec"].get("cluster"):
            with contextlib.suppress(NotFound):
                await self._until_done(CLUSTER, observed, name=cluster)
        if not self.waiting:
            await self._until_done(SET, set_progress, name=name)

    async def cluster(self, name: str) -> None:
        """Its sets; from the start if its manifest changes meanwhile."""
        seen = None
        while True:
            (cluster,) = await self._until_done(CLUSTER, cluster_progress, name=name)
            if self.waiting:
                return
            if meta.generation(cluster) == seen:
                break
            seen = meta.generation(cluster)

            def of_cluster(agent_set: Object, owner: Object = cluster) -> Progress:
                return set_progress(agent_set) if belongs_to(agent_set, owner) else Progress("", done=True)

            await self._until_done(SET, of_cluster, selector=f"{meta.CLUSTER_LABEL}={name}")
            if self.waiting:
                return
        show(f'agentcluster "{name}" successfully rolled out')

    async def _until_done(
        self, kind: str, judge: Callable[[Object], Progress], *, name: str = "", selector: str = ""
    ) -> list[Object]:
        """The objects, once all are done; at once if nobody waits.

        Args:
            name: of the only one, which must exist.
        """
        fields = f"metadata.name={name}" if name else ""
        listing = await self._client.listing(kind, namespace=self._namespace, selector=selector, field_selector=fields)
        objects = {one["metadata"]["name"]: one for one in listing.items}
        if self._tell(kind, judge, name, objects) or not self._wait:
            return list(objects.values())
        changes = self._client.watch(
            kind, namespace=self._namespace, selector=selector, field_selector=fields, after=listing
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                if change.type == "DELETED":
                    objects.pop(change.object["metadata"]["name"], None)
                else:
                    objects[change.object["metadata"]["name"]] = change.object
                if self._tell(kind, judge, name, objects):
                    break
        return list(objects.values())

    def _tell(self, kind: str, judge: Callable[[Object], Progress], name: str, objects: Mapping[str, Object]) -> bool:
        """Says what is new; returns whether all are done."""
        if name and not objects:
            raise NotFound(f'{kind.lower()} "{name}" does not exist')
        waiting = []
        for key, obj in sorted(objects.items()):
            progress = judge(obj)
            if progress.failed:
                raise Permanent(progress.message)
            if progress.message and self._said.get((kind, key)) != progress.message:
                self._said[kind, key] = progress.message
                show(progress.message)
            if not progress.done:
                waiting.append(progress.message)
        self.waiting = waiting
        return not waiting
