"""The API server on memory logs, and clients of it: fixtures over `api_world`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from api_world import Client, Cluster, Kubectl, Served, World, cluster, node, open_world

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


@pytest.fixture
async def served(world: Any, tmp_path: Path) -> AsyncIterator[Served]:
    authority = Authority.open(tmp_path / "pki", SystemClock())
    server = authority.server(["127.0.0.1"])
    async with serve(world.app, ServeSettings(server.path, server.path, authority.certificate_path)) as serving:
        yield Served(serving, authority)


@pytest.fixture(name="cluster")
def served_cluster(served: Served, kubectl_program: Path, tmp_path: Path) -> Cluster:
    def user(name: str, group: str) -> Kubectl:
        identity = served.authority.client(name, [group])
        access = ApiAccess(served.serving.url, served.authority.pem, identity.certificate_pem, identity.key_pem)
        write_kubeconfig(tmp_path / f"{name}.kubeconfig", access, user=name)
        return Kubectl(kubectl_program, tmp_path / f"{name}.kubeconfig", tmp_path / f"{name}-cache")

    return Cluster(served.serving, served.authority, user)


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return cluster.user("admin", "system:masters")
