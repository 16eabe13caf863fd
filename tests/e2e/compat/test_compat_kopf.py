"""An operator written with kopf against a real machine: handlers, finalizers, events, a server that dies."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e_machine import BIN, UpProcess, as_yaml, cluster, wait_for

pytestmark = pytest.mark.real

OPERATOR = Path(__file__).with_name("operator_of_clusters.py")
FINALIZER = "example.org/operator"


class Operator:
    """A running `kopf run` and what it has noted."""

    def __init__(self, place: Path) -> None:
        self.notes = place / "notes"
        self.said = place / "said"
        self.notes.touch()
        self.process: subprocess.Popen[bytes]

    def handled(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    def until(self, what: str, name: str) -> dict[str, Any]:
        """What it noted of this, once it has."""

        def found() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.said.read_text()
            return next((note for note in self.handled() if (note["what"], note["name"]) == (what, name)), None)

        noted = wait_for(found, f"the operator notes {what} of {name}")
        assert noted is not None
        return noted


@contextmanager
def running(machine: UpProcess, place: Path, *options: str) -> Iterator[Operator]:
    """A `kopf run`; it must end by itself when it is asked to."""
    place.mkdir(exist_ok=True)
    operator = Operator(place)
    with operator.said.open("wb") as said:
        operator.process = subprocess.Popen(
            [BIN / "kopf", "run", *options, OPERATOR],
            env={**machine.environment, "NOTES": str(operator.notes)},
            stdout=said,
            stderr=said,
        )
    try:
        yield operator
        operator.process.send_signal(signal.SIGINT)
        assert operator.process.wait(30) == 0, operator.said.read_text()
    finally:
        operator.process.kill()
        operator.process.wait()


def applied(machine: UpProcess, name: str, replicas: int = 1) -> None:
    machine.kubectl("apply", "-f", "-", given=as_yaml(cluster(name, machine.template("worker", "Worker", replicas))))


def metadata(machine: UpProcess, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.kubectl("get", kind, name, "-o", "json"))["metadata"]
    return found


@pytest.mark.parametrize(
    "options",
    [
        ("-n", "default"),
        ("--all-namespaces", "--standalone"),
        (
            "-n",
            "def*",
        ),
    ],
    ids=["namespace", "everywhere", "pattern"],
)
def test_handlers_see_a_cluster_from_its_creation_to_its_end(
    machine: UpProcess, tmp_path: Path, options: Sequence[str]
) -> None:
    with running(machine, tmp_path, *options) as operator:
        applied(machine, "operated")
        operator.until("created", "operated")
        operator.until("set created", "operated-worker")
        operator.until("pod", "operated-worker-0")
        machine.kubectl("wait", "--for=condition=Ready", "ac/operated", "--timeout=60s")
        wait_for(lambda: "example.org/size" in metadata(machine, "ac", "operated")["annotations"], "its patch is there")
        shown = metadata(machine, "ac", "operated")
        assert shown["annotations"]["example.org/size"] == "1"
        # It keeps there what it has handled.
        assert "worker" in shown["annotations"]["kopf.zalando.org/last-handled-configuration"]
        assert set(shown["finalizers"]) == {"choregos.dev/agents", FINALIZER}
        assert metadata(machine, "as", "operated-worker")["labels"]["example.org/seen"] == "yes"
        wait_for(
            lambda: "operated was made" in machine.kubectl("events", "--for", "agentcluster.choregos.dev/operated"),
            "its event is there",
        )
        applied(machine, "operated", 2)
        assert operator.until("updated", "operated")["replicas"] == [1, 2]
        machine.kubectl("wait", "--for=jsonpath={.status.readyAgents}=2", "ac/operated", "--timeout=60s")
        machine.kubectl("delete", "ac", "operated", "--timeout=60s")
        operator.until("deleted", "operated")
        operator.until("set deleted", "operated-worker")
        operator.until("pod gone", "operated-worker-1")
        noted = [note["what"] for note in operator.handled() if note["name"] == "operated"]
        # Resumed too, if it was there before the operator looked.
        assert [what for what in noted if what != "resumed"] == ["created", "updated", "deleted"]


def test_its_finalizer_holds_an_object_until_it_is_back(machine: UpProcess, tmp_path: Path) -> None:
    with running(machine, tmp_path / "first", "-n", "default") as operator:
        applied(machine, "held")
        operator.until("created", "held")
        wait_for(lambda: FINALIZER in metadata(machine, "ac", "held")["finalizers"], "the finalizer is there")
        operator.until("set created", "held-worker")
    machine.kubectl("delete", "ac", "held", "--wait=false")
    assert metadata(machine, "ac", "held")["deletionTimestamp"]
    assert FINALIZER in metadata(machine, "ac", "held")["finalizers"]
    with running(machine, tmp_path / "second", "-n", "default") as operator:
        operator.until("deleted", "held")
        machine.kubectl("wait", "--for=delete", "ac/held", "--timeout=60s")


def test_it_goes_on_when_the_api_server_has_died(machine: UpProcess, tmp_path: Path) -> None:
    with running(machine, tmp_path, "-n", "default") as operator:
        applied(machine, "before")
        operator.until("created", "before")
        # What it has handled it knows by an annotation; without it, it would take the object for a new one again.
        noted = "last-handled-configuration"
        wait_for(lambda: noted in machine.kubectl("get", "ac", "before", "-o", "json"), "it has stored what it handled")
        server = machine.only("api")
        server.kill()
        wait_for(lambda: [each.pid for each in machine.named("api")] not in ([], [server.pid]), "another one runs")
        wait_for(lambda: machine.run("kubectl", "get", "--raw", "/readyz").code == 0, "it answers")
        applied(machine, "before", 2)
        assert operator.until("updated", "before")["replicas"] == [1, 2]
        applied(machine, "after")
        operator.until("created", "after")
        operator.until("pod", "after-worker-0")
        machine.kubectl("delete", "ac", "before", "after", "--timeout=60s")
        for name in ("before", "after"):
            operator.until("deleted", name)
            assert [note["what"] for note in operator.handled() if note["name"] == name].count("created") == 1
