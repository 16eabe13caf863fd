"""The doctor: what is wrong is named with its remedy, what is well is not complained about, and nothing is changed."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from choregos.cli.doctor import machine
from choregos.cli.exit_codes import ExitCode
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.security.credentials import BusServer, load_or_create, write_configuration
from choregos.security.pki import Authority

Choregos = Callable[..., Any]


def findings(result: Any) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in json.loads(result.out)}


@pytest.fixture
def running(data_directory: Path) -> Iterator[None]:
    """The data directory as a running `choregos up` holds it."""
    handle = os.open(data_directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
    os.close(handle)


def record(directory: Path, **config: Any) -> None:
    (directory / "machine.json").write_text(json.dumps(config))


def test_a_bare_machine_is_in_order(choregos: Choregos, data_directory: Path, tmp_path: Path) -> None:
    data_directory.rmdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
    result = choregos("doctor", "-o", "json")
    found = findings(result)
    assert found["python"]["level"] == found["nats-server"]["level"] == "ok"
    assert found["API server"]["level"] == "warn"
    assert "choregos up" in found["API server"]["remedy"]
    assert not data_directory.exists()


def test_text_has_a_line_for_each_check_and_its_remedy(choregos: Choregos, data_directory: Path) -> None:
    lines = choregos("doctor").out.splitlines()
    assert lines[0].startswith("OK    python: ")
    assert any(line.startswith("      → ") for line in lines)


def test_everything_well_with_a_running_server(
    choregos: Choregos, background: Any, running: None, data_directory: Path
) -> None:
    port = int(background.api.url.rpartition(":")[2])
    record(data_directory, api_host="127.0.0.1", api_port=port, bus_servers=["nats://127.0.0.1:1"], node="n1")
    found = findings(choregos("doctor", "-o", "json"))
    assert "is held by the running" in found["API port"]["message"]
    assert found["API server"]["level"] == "ok"
    assert found["certificate ca"]["level"] == found["certificate server"]["level"] == "ok"
    assert found["agents"]["message"] == "0 of 0 ready"
    assert found["nodes"]["level"] == "fail"


def test_a_port_that_another_program_has(choregos: Choregos, data_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        record(data_directory, api_port=other.getsockname()[1])
        result = choregos("doctor", "-o", "json")
    assert result.code == ExitCode.FAILED
    assert "--api-port 0" in findings(result)["API port"]["remedy"]
    assert result.err == "Error: not in order: API port\n"


def test_files_that_others_can_read(choregos: Choregos, data_directory: Path) -> None:
    Authority.open(data_directory / "pki", SystemClock())
    (data_directory / "pki" / "ca.pem").chmod(0o644)
    found = findings(choregos("doctor", "-o", "json"))
    assert found["private files"]["level"] == "fail"
    assert found["private files"]["remedy"] == f"Run `chmod 600 {data_directory / 'pki' / 'ca.pem'}`."


def test_a_damaged_certificate(choregos: Choregos, data_directory: Path) -> None:
    Authority.open(data_directory / "pki", SystemClock()).server(["a"]).path.write_bytes(b"")
    found = findings(choregos("doctor", "-o", "json"))
    assert found["certificate server"]["level"] == "fail"
    assert found["certificate ca"]["level"] == "ok"


@pytest.mark.parametrize("content", ["{", "[]", '{"api_port": "many"}'])
def test_a_damaged_configuration(choregos: Choregos, data_directory: Path, content: str) -> None:
    (data_directory / "machine.json").write_text(content)
    found = findings(choregos("doctor", "-o", "json"))
    assert found["configuration"]["level"] == "fail"
    assert str(data_directory / "machine.json") in found["configuration"]["message"]
    assert "Remove it" in found["configuration"]["remedy"]
    assert "API port" in found


def test_a_damaged_store(choregos: Choregos, data_directory: Path) -> None:
    notes = data_directory / "nats" / "watermarks.json"
    notes.parent.mkdir()
    notes.write_text(json.dumps({"reached": {"S": 9}, "damage": ["stream S ends at revision 7, it had reached 9"]}))
    found = findings(choregos("doctor", "-o", "json"))["store"]
    assert (found["level"], found["message"]) == ("fail", "stream S ends at revision 7, it had reached 9")
    assert f"remove {notes}" in found["remedy"]
    notes.write_text("{")
    assert "cannot be understood" in findings(choregos("doctor", "-o", "json"))["store"]["message"]


def test_what_nats_server_says_of_damage_since_it_was_started(choregos: Choregos, data_directory: Path) -> None:
    log = data_directory / "logs" / "nats-server.log"
    log.parent.mkdir()
    begun = "[7] 2026/11/22 23:59:19.1 [INF] Starting nats-server\n"
    damaged = "[7] 2026/11/22 23:59:24.4 [ERR] JetStream failed to store: corrupt message in 1.blk: invalid checksum\n"
    log.write_text(begun + damaged)
    found = findings(choregos("doctor", "-o", "json"))["store"]
    assert found["level"] == "fail"
    assert found["message"] == "nats-server says: JetStream failed to store: corrupt message in 1.blk: invalid checksum"
    log.write_text(begun + damaged + begun)
    assert findings(choregos("doctor", "-o", "json"))["store"]["level"] == "ok"


def test_a_bus_that_does_not_answer(choregos: Choregos, data_directory: Path, running: None) -> None:
    record(data_directory, bus_servers=["nats://127.0.0.1:1"], api_port=1)
    assert "does not exist" in findings(choregos("doctor", "-o", "json"))["JetStream"]["message"]
    load_or_create(data_directory / "nats" / "credentials.json", SystemIds())
    found = findings(choregos("doctor", "-o", "json"))
    assert "does not answer" in found["JetStream"]["message"]
    assert "logs" in found["JetStream"]["remedy"]


@pytest.mark.real
def test_a_bus_that_answers(choregos: Choregos, data_directory: Path, running: None, tmp_path: Path) -> None:
    import subprocess

    from choregos.testing.nats_server import find_binary

    credentials = load_or_create(data_directory / "nats" / "credentials.json", SystemIds())
    configuration = tmp_path / "server.conf"
    write_configuration(configuration, BusServer(tmp_path / "store", port=-1, credentials=credentials))
    with subprocess.Popen([find_binary(), "-c", str(configuration)], stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            address = ""
            for line in process.stderr:
                if b"Listening for client connections on" in line:
                    address = line.decode().split()[-1]
                if b"Server is ready" in line:
                    break
            record(data_directory, bus_servers=[f"nats://{address}"])
            found = findings(choregos("doctor", "-o", "json"))
            assert found["JetStream"]["message"] == "0 streams, 0.0 MiB stored"
        finally:
            process.terminate()


def test_nodes_and_failing_agents_are_summed_up(choregos: Choregos, background: Any, server: Any) -> None:
    for name, status in (("bad", "False"), ("good", "True")):
        server.create(
            {
                "apiVersion": "choregos.dev/v1",
                "kind": "AgentNode",
                "metadata": {"name": name},
                "spec": {"region": "local"},
            }
        )
        condition = {
            "type": "Ready",
            "status": status,
            "reason": "LeaseExpired",
            "message": "no sign of life",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        server._wait(
            server._client.patch("agentnodes", name, {"status": {"conditions": [condition]}}, subresource="status")
        )
    background.do(background.api.start_agents("web", 3, ready=False))
    background.do(background.api.start_agents("api", 2))
    found = findings(choregos("doctor", "-o", "json"))
    assert found["node bad"]["message"] == "not ready: no sign of life"
    assert found["node good"]["level"] == "ok"
    assert found["agents"]["message"] == "3 of 5 not ready: ImportFailed: No module named 'x'"
    assert "describe agent web-0" in found["agents"]["remedy"]


class StoppedClock(SystemClock):
    def wall_ms(self) -> int:
        return 0


def test_a_clock_that_has_lost_its_time() -> None:
    [found] = [finding for finding in machine.check_machine(StoppedClock()) if finding.check == "clock"]
    assert (found.level, "1970" in found.message) == ("fail", True)


def test_a_check_that_breaks_hides_no_other(choregos: Choregos, data_directory: Path, monkeypatch: Any) -> None:
    def broken(_: Any) -> Iterator[Any]:
        raise RuntimeError("oops")
        yield

    monkeypatch.setattr("choregos.cli.doctor.command.check_machine", broken)
    found = findings(choregos("doctor", "-o", "json"))
    assert "RuntimeError: oops" in found["machine"]["message"]
    assert found["disk space"]["level"] == "ok"
