"""A kube-apiserver on an etcd of its own, to compare with: found, not installed.

Both programs are taken from the directory that `KUBEBUILDER_ASSETS` names, as Kubernetes' own tests find them, or else
from the PATH. The server speaks TLS, knows clients by their certificates and decides by RBAC, as ours does; etcd
listens on the loopback interface without TLS and syncs every write to disk, as etcd does unless told otherwise.
Nothing else runs: no controller, no scheduler. AgentSets are a custom resource of the schema that ours publishes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.api.http_connection import RequestFailed, client_tls, open_connection
from benchmarks.api.objects import AGENTSETS, encoded
from benchmarks.api.servers import Server
from benchmarks.subject import CACHE
from benchmarks.subjects.memory import unique_bytes
from choregos.assembly.machine.ports import free_port
from choregos.foundation import tether
from choregos.foundation.clock import SystemClock
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.schema import openapi_schema
from choregos.security.kubeconfig import ApiAccess, write_kubeconfig
from choregos.security.pki import ADMINISTRATORS, Authority, server_names

NAME = "kube-apiserver"
ASSETS = "KUBEBUILDER_ASSETS"
HOST = "127.0.0.1"
READY_TIMEOUT_S, STOP_TIMEOUT_S, POLL_S = 90.0, 10.0, 0.2


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """Where the programs are and which, or why they are not.

    Attributes:
        programs: kube-apiserver and etcd; None: at least one is not there, for the reason given in `missing`.
    """

    programs: tuple[Path, Path] | None = None
    versions: str = ""
    missing: str = ""


def find_kubernetes() -> Kubernetes:
    folders = os.pathsep.join(filter(None, (os.environ.get(ASSETS), os.environ.get("PATH"))))
    server, etcd = (shutil.which(name, path=folders) for name in (NAME, "etcd"))
    if server is None or etcd is None:
        absent = " and ".join(name for name, found in ((NAME, server), ("etcd", etcd)) if not found)
        return Kubernetes(missing=f"{absent} not found, neither in ${ASSETS} nor on the PATH")
    versions = [_version(server, "--version", -1), _version(etcd, "--version", 2)]
    return Kubernetes((Path(server), Path(etcd)), f"kube-apiserver {versions[0]}, etcd {versions[1]}")


def _version(program: str, option: str, word: int) -> str:
    said = subprocess.run([program, option], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].split()[word]


@asynccontextmanager
async def running_kubernetes(kubernetes: Kubernetes) -> AsyncIterator[Server]:
    """A fresh one with the custom resource; its files lie on the same disk as ours."""
    assert kubernetes.programs is not None
    server_program, etcd_program = map(str, kubernetes.programs)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        async with AsyncExitStack() as stack:
            directory = Path(folder)
            store, peer, port = free_port(HOST), free_port(HOST), free_port(HOST)
            etcd = await stack.enter_async_context(_running(etcd_program, _etcd_options(directory, store, peer)))
            authority = Authority.open(directory / "pki", SystemClock())
            options = _server_options(directory, authority, store, port)
            process = await stack.enter_async_context(_running(server_program, options))
            admin = authority.client("admin", (ADMINISTRATORS,))
            url, kubeconfig = f"https://{HOST}:{port}", directory / "kubeconfig"
            write_kubeconfig(kubeconfig, ApiAccess(url, authority.pem, admin.certificate_pem, admin.key_pem))
            server = Server(
                NAME,
                NAME,
                url,
                authority.certificate_path,
                admin.path,
                kubeconfig,
                lambda: {
                    "etcd": sum(unique_bytes([etcd.pid]).values()),
                    NAME: sum(unique_bytes([process.pid]).values()),
                },
            )
            await _answers(server, "GET", "/readyz")
            await _answers(server, "GET", "/api/v1/namespaces/default")
            definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            await _answers(server, "POST", definitions, encoded(_definition()))
            await _answers(server, "GET", AGENTSETS.path)
            yield server


def _etcd_options(directory: Path, port: int, peer_port: int) -> list[str]:
    client, peer = f"http://{HOST}:{port}", f"http://{HOST}:{peer_port}"
    return [
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=error",
    ]


def _server_options(directory: Path, authority: Authority, store: int, port: int) -> list[str]:
    identity = authority.server(server_names("localhost")).path
    return [
        f"--etcd-servers=http://{HOST}:{store}",
        f"--secure-port={port}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={directory / 'kube-pki'}",
        f"--tls-cert-file={identity}",
        f"--tls-private-key-file={identity}",
        f"--client-ca-file={authority.certificate_path}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={identity}",
        f"--service-account-signing-key-file={identity}",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


@asynccontextmanager
async def _running(program: str, options: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the context, and with this process."""
    tied = [sys.executable, "-S", "-E", tether.__file__, str(os.getpid()), program, *options]
    with (CACHE / f"{Path(program).name}.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(*tied, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _answers(server: Server, method: str, target: str, body: bytes = b"") -> None:
    """Repeats the request until it succeeds."""
    tls = client_tls(server.authority, server.identity)
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            try:
                async with open_connection(server.url, tls) as client:
                    await client.send(method, target, body=body)
                return
            except (RequestFailed, OSError) as error:
                last = str(error)
                if " 422 " in last:
                    raise
                await asyncio.sleep(POLL_S)


def _definition() -> dict[str, Any]:
    """The custom resource: the schema that ours publishes, the columns that ours has."""
    schema = _structural(openapi_schema(AGENTSET, AGENTSET.group, AGENTSET.version))
    schema["properties"]["metadata"] = {"type": "object"}
    columns = [
        {"name": "Desired", "type": "integer", "jsonPath": ".spec.replicas"},
        {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
        {"name": "Up-To-Date", "type": "integer", "jsonPath": ".status.updatedReplicas"},
        {"name": "Available", "type": "integer", "jsonPath": ".status.availableReplicas"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {
        "name": AGENTSET.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{AGENTSET.plural}.{AGENTSET.group}"},
        "spec": {
            "group": AGENTSET.group,
            "names": {"plural": AGENTSET.plural, "singular": AGENTSET.singular, "kind": AGENTSET.kind},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _structural(schema: Any) -> Any:
    """As custom resources may say it: nothing is referred to; what may be a number or text says so.

    Empty text as a default is left out: some versions take it for null.
    """
    if isinstance(schema, list):
        return [_structural(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "allOf" in schema:
        return {"description": schema.get("description", ""), "x-kubernetes-int-or-string": True}
    return {
        name: _structural(part)
        for name, part in schema.items()
        if name != "x-kubernetes-group-version-kind" and (name, part) != ("default", "")
    }
