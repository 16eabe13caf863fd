"""The API server on memory logs, and clients of it: fixtures over `api_world`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from api_world import Client, Cluster, Kubectl, World, cluster, node, open_world

from choregos.api.serve import ServeSettings, serve
from choregos.foundation.clock import SystemClock
from choregos.security.kubeconfig import ApiAccess, write_kubeconfig
from choregos.security.pki import Authority


@pytest.fixture(name="open_world")
def open_world_fixture() -> Any:
    """For tests that run an event loop of their own."""
    return open_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened


@pytest.fixture
def client(world: World) -> Client:
    return world.client


@pytest.fixture
def manifests() -> Any:
    """The manifest makers."""

    class Manifests:
        cluster = staticmethod(cluster)
        node = staticmethod(node)

    return Manifests


@pytest.fixture(name="cluster")
async def served_cluster(world: Any, kubectl_program: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    authority = Authority.open(tmp_path / "pki", SystemClock())
    server = authority.server(["127.0.0.1"])
    async with serve(world.app, ServeSettings(server.path, server.path, authority.certificate_path)) as serving:

        def user(name: str, group: str) -> Kubectl:
            identity = authority.client(name, [group])
            access = ApiAccess(serving.url, authority.pem, identity.certificate_pem, identity.key_pem)
            write_kubeconfig(tmp_path / f"{name}.kubeconfig", access, user=name)
            return Kubectl(kubectl_program, tmp_path / f"{name}.kubeconfig", tmp_path / f"{name}-cache")

        yield Cluster(serving, authority, user)


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return cluster.user("admin", "system:masters")
