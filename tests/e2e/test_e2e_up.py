"""`choregos up`: what it refuses and how it says so, what it takes up again, and that it ends with all it began."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import psutil
import pytest
from e2e_fleet import Fleet, hosts
from e2e_machine import MakeUp, UpProcess, applied, cluster, wait_for

pytestmark = pytest.mark.real

ENDS_WITHIN_S = 15.0


def refused(up: UpProcess) -> str:
    """Starts what cannot start; returns what it said. Nothing of it may be left."""
    up.launch()
    assert up.process.wait(30) == 1, up.talk
    up.until_gone()
    assert "Traceback" not in up.talk
    return up.talk


async def test_the_next_up_takes_the_declared_fleet_up_again(make_up: MakeUp):
    up = make_up()
    up.start()
    async with up.client() as client:
        fleet = Fleet(up, client, 5)
        await fleet.declare()
        before = await fleet.until_ready()
    up.stop()
    up.start()
    async with up.client() as client:
        fleet = Fleet(up, client, 5)
        await fleet.until_ready(not_in=hosts(before))
        await fleet.verify(before)
    up.stop()


def test_a_second_up_on_the_same_directory_is_refused_and_disturbs_nobody(machine: UpProcess, make_up: MakeUp):
    before = {process.pid for process in machine.processes()}
    said = refused(make_up(root=machine.root))
    assert f"is in use by another `choregos up` (process {machine.process.pid})" in said
    assert "--data-dir" in said
    assert {process.pid for process in machine.processes()} == before
    assert "Ready" in machine.kubectl("get", "agentnodes")


def test_a_port_that_is_taken_is_named_and_nothing_is_left(make_up: MakeUp):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = make_up("data", "--api-port", str(port))
        said = refused(up)
    assert f"127.0.0.1:{port}: the port is taken" in said
    assert "--api-port" in said
    assert not up.root.joinpath("kubeconfig").exists()
    assert not up.root.joinpath("machine.json").exists()


def test_a_directory_that_cannot_be_made_is_named(make_up: MakeUp, tmp_path: Path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    said = refused(make_up(root=in_the_way / "data"))
    assert str(in_the_way / "data") in said
    assert "--data-dir" in said


def test_a_directory_that_cannot_be_written_is_named(make_up: MakeUp, read_only_directory: Path):
    for root in (read_only_directory, read_only_directory / "data"):
        said = refused(make_up(root=root))
        assert f"the data directory {root} cannot be written: " in said
        assert "--data-dir" in said


def test_a_damaged_configuration_is_named_and_can_be_removed(make_up: MakeUp):
    up = make_up()
    up.start()
    up.stop()
    config = up.root / "machine.json"
    for damage in ("", "{", json.dumps({"machine": 7})):
        config.write_text(damage)
        said = refused(up)
        assert f"{config} cannot be understood" in said
        assert "Remove it" in said
    config.unlink()
    up.start()
    up.stop()


def test_wrong_options_are_refused_before_anything_is_made(make_up: MakeUp):
    up = make_up("data", "--capacity", "cpu=128,memory=lots")
    up.launch()
    assert up.process.wait(30) == 5
    assert "--capacity: memory" in up.talk
    assert not up.root.exists()


def test_what_it_says_to_type_next_works_in_a_bare_shell(make_up: MakeUp):
    bare = "/usr/bin:/bin"
    up = make_up("data", "--api-port", "0", environment={"PATH": bare})
    up.start()
    [export] = [line.strip() for line in up.talk.splitlines() if line.strip().startswith("export ")]
    typed = subprocess.run(
        ["/bin/sh", "-c", f"{export}; choregos get agentnodes && kubectl get agentnodes"],
        env={"PATH": bare, "HOME": str(up.places)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert typed.stdout.count("Ready") == 2, typed.stderr
    up.stop()


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="this system does not tell limits of others")
def test_every_process_takes_all_the_descriptors_it_may(make_up: MakeUp):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    up = make_up("data", "--api-port", "0")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        up.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for name in ("up", "nats-server", "control", "api", "node"):
        assert up.only(name).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard), name
    up.stop()


async def test_a_machine_of_another_region_runs_what_names_none_and_stays_of_that_region(make_up: MakeUp):
    up = make_up("data", "--region", "A_B", "--api-port", "0", "--workers", "1")
    up.start()
    async with up.client() as client:
        await applied(client, cluster("plain", up.template("witness", "Witness", 1)))
    up.stop()
    said = refused(make_up("data", "--region", "eu", "--api-port", "0"))
    assert "is of region A_B, where its agents are, and stays so: leave out --region eu" in said
    again = make_up("data", "--api-port", "0", "--workers", "1")
    again.start()
    assert "in region A_B" in again.talk
    async with again.client() as client:
        await client.wait("agentcluster", "plain", "condition=Ready", timeout_s=60)
    again.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_everything_within_seconds(make_up: MakeUp, number: signal.Signals):
    up = make_up()
    up.start()
    async with up.client() as client:
        await applied(client, cluster("busy", up.template("witness", "Witness", 20)))
    up.process.send_signal(number)
    assert up.process.wait(ENDS_WITHIN_S) == 0, up.talk
    assert not up.processes()
    assert "choregos has ended" in up.talk


@pytest.mark.parametrize("role", ["nats-server", "control", "api", "node"])
def test_a_signal_while_starting_ends_everything_and_spoils_nothing(make_up: MakeUp, role: str):
    up = make_up()
    for number in (signal.SIGTERM, signal.SIGINT):
        up.launch()
        wait_for(lambda: up.named(role), f"{role} is being started")
        up.process.send_signal(number)
        assert up.process.wait(ENDS_WITHIN_S) == 0, up.talk
        assert not up.processes()
        assert "Traceback" not in up.talk
    up.launch()
    wait_for(lambda: up.named(role), f"{role} is being started")
    up.process.kill()
    up.process.wait()
    up.until_gone()
    up.start()
    up.stop()


def test_a_hanging_nats_server_does_not_keep_the_others_from_ending(make_up: MakeUp):
    up = make_up()
    up.start()
    up.only("nats-server").suspend()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    up.until_gone()
    assert "nats-server did not end" in up.talk
    assert "api did not end" not in up.talk
    assert "control did not end" not in up.talk
    assert "node did not end" not in up.talk


def test_everything_listens_on_loopback_only(machine: UpProcess):
    listening = {
        connection.laddr.ip
        for process in machine.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_nobody_gets_in_without_credentials(machine: UpProcess):
    config = json.loads((machine.root / "machine.json").read_text())
    context = ssl.create_default_context(cafile=str(machine.root / "pki" / "ca.crt"))
    api = socket.create_connection((config["api_host"], config["api_port"]), timeout=10)
    with context.wrap_socket(api, server_hostname=config["api_host"]) as api, api.makefile("rwb") as lines:
        lines.write(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        lines.flush()
        assert lines.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    host, _, port = config["bus_servers"][0].removeprefix("nats://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as bus, bus.makefile("rwb") as lines:
        assert lines.readline().startswith(b"INFO")
        lines.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        lines.flush()
        assert b"Authorization Violation" in lines.readline()


def test_the_data_directory_is_its_owners_only(machine: UpProcess):
    assert machine.root.stat().st_mode & 0o077 == 0


@pytest.fixture
def read_only_directory(tmp_path: Path):
    """A directory that even root cannot write to."""
    path = tmp_path / "read-only"
    path.mkdir()
    if os.geteuid() != 0:
        path.chmod(0o500)
        yield path
        path.chmod(0o700)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=200m", "choregos-tests", str(path)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)
