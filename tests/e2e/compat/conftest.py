"""Real clients of Kubernetes, on a real machine: which kubectl, and a cluster that tests only look at."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e_machine import Result, UpProcess, as_yaml, cluster


@dataclass(frozen=True)
class Kubectl:
    """One version of kubectl, as the administrator of the machine."""

    program: Path
    machine: UpProcess

    def run(self, *argv: str, given: str = "") -> Result:
        return self.machine.run(str(self.program), *argv, given=given)

    def __call__(self, *argv: str, given: str = "") -> str:
        """Standard output of a command that succeeds."""
        result = self.run(*argv, given=given)
        assert result.code == 0, f"kubectl {' '.join(argv)}: {result.err}{result.out}"
        return result.out


@pytest.fixture
def kubectl(machine: UpProcess, kubectl_program: Path) -> Kubectl:
    return Kubectl(kubectl_program, machine)


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """What a library has left to the collector of garbage goes while its module's warnings are ignored."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def shop(machine: UpProcess) -> str:
    """Name of a cluster with two ready agents, labelled tier=gold; stays as it is."""
    worker = machine.template("worker", "Worker", 2, labels={"tier": "gold"}, capabilities=["work"])
    machine.kubectl("apply", "-f", "-", given=as_yaml(cluster("shop", worker)))
    machine.kubectl("wait", "--for=condition=Ready", "agentcluster/shop", "--timeout=60s")
    machine.kubectl("label", "namespace", "default", "choregos.dev/exec=allowed", "--overwrite")
    return "shop"
