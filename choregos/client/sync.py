"""The client for programs without an event loop: `SyncClient`, a thin form of `Client`.

Its loop runs in a thread of its own, so that it also works where a loop runs already (notebooks). Safe to use from
several threads. See `Client` for what the methods do and raise.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from choregos.client.applying import Applied
from choregos.client.client import CallAnswer, Client, Objects, Patch
from choregos.client.watching import Listing, Object, WatchEvent

T = TypeVar("T")


class SyncClient:
    """A `Client` whose methods wait; close it, or use it as a context."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="choregos client", daemon=True)
        self._thread.start()

    @classmethod
    def from_kubeconfig(cls, path: str | Path | None = None, *, context: str = "", server: str = "") -> SyncClient:
        return cls(Client.from_kubeconfig(path, context=context, server=server))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is under way and the thread."""
        if self._loop.is_closed():
            return
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def namespace(self) -> str:
        return self._client.namespace

    @property
    def server(self) -> str:
        return self._client.server

    def version(self) -> Object:
        return self._wait(self._client.version())

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object:
        return self._wait(self._client.get(kind, name, namespace=namespace))

    def list(self, kind: str, *, namespace: str | None = None, selector: str = "", field_selector: str = "") -> Objects:
        return self._wait(
            self._client.list(kind, namespace=namespace, selector=selector, field_selector=field_selector)
        )

    def listing(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        selector: str = "",
        field_selector: str = "",
        tables: bool = False,
    ) -> Listing:
        selection: dict[str, Any] = {"namespace": namespace, "selector": selector, "field_selector": field_selector}
        return self._wait(self._client.listing(kind, **selection, tables=tables))

    def watch(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        selector: str = "",
        field_selector: str = "",
        after: Listing | None = None,
        tables: bool = False,
    ) -> Iterator[WatchEvent]:
        selection: dict[str, Any] = {"namespace": namespace, "selector": selector, "field_selector": field_selector}
        return self._iterate(self._client.watch(kind, **selection, after=after, tables=tables))

    def events(self, *, namespace: str | None = None, about: Object | None = None) -> Objects:
        return self._wait(self._client.events(namespace=namespace, about=about))

    def logs(
        self,
        agent: str,
        *,
        namespace: str | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        which = {"tail_lines": tail_lines, "since_s": since_s}
        return self._iterate(self._client.logs(agent, namespace=namespace, follow=follow, previous=previous, **which))

    def create(self, manifest: Object, *, dry_run: bool = False) -> Object:
        return self._wait(self._client.create(manifest, dry_run=dry_run))

    def apply(
        self, manifest: Object, *, dry_run: bool = False, server_side: bool = False, force: bool = False
    ) -> Applied:
        return self._wait(self._client.apply(manifest, dry_run=dry_run, server_side=server_side, force=force))

    def replace(self, obj: Object) -> Object:
        return self._wait(self._client.replace(obj))

    def patch(
        self, kind: str, name: str, patch: Patch, *, namespace: str | None = None, subresource: str = ""
    ) -> Object:
        return self._wait(self._client.patch(kind, name, patch, namespace=namespace, subresource=subresource))

    def scale(self, kind: str, name: str, replicas: int, *, namespace: str | None = None) -> Object:
        return self._wait(self._client.scale(kind, name, replicas, namespace=namespace))

    def delete(
        self, kind: str, name: str, *, namespace: str | None = None, grace_s: int | None = None, uid: str = ""
    ) -> str:
        return self._wait(self._client.delete(kind, name, namespace=namespace, grace_s=grace_s, uid=uid))

    def wait(
        self, kind: str, name: str, goal: str, *, timeout_s: float, namespace: str | None = None, uid: str = ""
    ) -> Object | None:
        return self._wait(self._client.wait(kind, name, goal, timeout_s=timeout_s, namespace=namespace, uid=uid))

    def call(
        self,
        *,
        agent: str = "",
        capability: str = "",
        method: str = "",
        timeout_s: float = 30.0,
        namespace: str | None = None,
        selector: str = "",
        **arguments: Any,
    ) -> Any:
        target = {"agent": agent, "capability": capability, "method": method, "selector": selector}
        return self.call_detailed(target, arguments, timeout_s=timeout_s, namespace=namespace).result

    def call_detailed(
        self, target: Mapping[str, str], arguments: Mapping[str, Any], *, timeout_s: float, namespace: str | None = None
    ) -> CallAnswer:
        return self._wait(self._client.call_detailed(target, arguments, timeout_s=timeout_s, namespace=namespace))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C interrupts this thread only: the request must end too.
            future.cancel()
            raise

    def _iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        async def step() -> tuple[bool, T | None]:
            # A StopAsyncIteration may not leave a coroutine.
            async for item in items:
                return True, item
            return False, None

        async def close() -> None:
            await items.aclose()

        try:
            while (found := self._wait(step()))[0]:
                yield found[1]  # type: ignore[misc]
        finally:
            self._wait(close())
