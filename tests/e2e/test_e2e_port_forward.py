"""Ports of agents on a whole machine: by our command line, as a plugin of kubectl, and by two Python clients."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from e2e_machine import BIN, UpProcess, applied, cluster, deleted

from choregos.client import Client
from choregos.foundation.errors import Denied, Temporary

pytestmark = pytest.mark.real

AGENT = "net-listener-0"
LABEL = "choregos.dev/exec"
MILLION = b"x" * 1_000_000

WITH_KUBERNETES = """
import sys
from kubernetes import client, config, stream
name, port = sys.argv[1], int(sys.argv[2])
config.load_kube_config()
connect = client.CoreV1Api().connect_get_namespaced_pod_portforward
forward = stream.portforward(connect, name, "default", ports=str(port))
connection = forward.socket(port)
connection.setblocking(True)
connection.sendall(b"hello")
print(connection.recv(100).decode())
forward.close()
"""

WITH_KR8S = """
import errno, socket, sys
from kr8s.objects import Pod
name, port = sys.argv[1], int(sys.argv[2])
pod = Pod.get(name, namespace="default")
while True:
    try:
        with pod.portforward(remote_port=port, local_port="auto") as local:
            with socket.create_connection(("127.0.0.1", local)) as connection:
                connection.sendall(b"hello")
                print(connection.recv(100).decode())
                break
    except OSError as error:  # kr8s looks for a free port first and takes it later: others may be faster
        if error.errno != errno.EADDRINUSE:
            raise
"""


@pytest.fixture
async def net(machine: UpProcess, client: Client) -> AsyncIterator[UpProcess]:
    """A machine with one agent whose ports may be reached."""
    await applied(client, cluster("net", machine.template("listener", "listener:Listener")))
    machine.kubectl("label", "namespace", "default", f"{LABEL}=allowed", "--overwrite")
    yield machine
    await deleted(client, "net")


async def ports(client: Client) -> tuple[int, int]:
    """Where the agent speaks, and where it pours."""
    speaking, pouring = await client.call(agent=AGENT, method="ports")
    return speaking, pouring


@contextmanager
def forwarding(machine: UpProcess, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The command while it runs, and the ports of this machine that it has taken."""
    process = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]],
        env=machine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        count = sum(word.startswith(":") for word in words)
        lines = [process.stdout.readline() for _ in range(count)]
        assert all(line.startswith("Forwarding from 127.0.0.1:") for line in lines), lines
        yield process, [int(line.split()[2].rpartition(":")[2]) for line in lines]
    finally:
        process.kill()
        process.communicate()


def received(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


async def test_bytes_go_both_ways_over_many_connections_until_ctrl_c(net: UpProcess, client: Client):
    speaking, pouring = await ports(client)
    words = ("choregos", "port-forward", f"agent/{AGENT}", f":{speaking}", f":{pouring}")
    with forwarding(net, *words) as (process, local):
        connections = [socket.create_connection(("127.0.0.1", local[0]), timeout=30) for _ in range(5)]
        for number, connection in enumerate(connections):
            connection.sendall(f"hello {number}".encode())
        for number, connection in enumerate(connections):
            assert connection.recv(100) == f"HELLO {number}".encode()
        with socket.create_connection(("127.0.0.1", local[1]), timeout=30) as connection:
            assert received(connection) == MILLION
        for connection in connections:
            connection.shutdown(socket.SHUT_WR)
            assert received(connection) == b"goodbye"
            connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


async def test_it_goes_on_while_the_agent_is_away_and_ends_when_it_is_forbidden(net: UpProcess, client: Client):
    speaking, _ = await ports(client)
    with forwarding(net, "kubectl", "choregos", "port-forward", AGENT, f":{speaking}", ":1") as (process, local):
        with socket.create_connection(("127.0.0.1", local[1]), timeout=30) as connection:
            assert received(connection) == b""
        with socket.create_connection(("127.0.0.1", local[0]), timeout=30) as connection:
            connection.sendall(b"still here")
            assert connection.recv(100) == b"STILL HERE"
        net.kubectl("label", "namespace", "default", f"{LABEL}-")
        with socket.create_connection(("127.0.0.1", local[0]), timeout=30) as connection:
            assert received(connection) == b""
        assert process.wait(30) == 6
        assert process.stderr is not None
        said = process.stderr.read()
    assert "port 1: the agent's worker does not listen on port 1 of the loopback, only on" in said
    assert f"kubectl label namespace default {LABEL}=allowed" in said
    net.kubectl("label", "namespace", "default", f"{LABEL}=allowed")


async def test_nothing_but_the_agents_own_ports_is_reached(net: UpProcess, client: Client):
    server = net.only("api").net_connections("tcp")[0].laddr.port
    async with client.connect_port(AGENT, server) as port:
        with pytest.raises(Temporary, match="does not listen on port"):
            await port.receive()
    net.kubectl("label", "namespace", "default", f"{LABEL}-")
    with pytest.raises(Denied, match="allowed"):
        async with client.connect_port(AGENT, server):
            pass
    net.kubectl("label", "namespace", "default", f"{LABEL}=allowed")


async def test_a_worker_that_dies_ends_the_connection(net: UpProcess, client: Client):
    speaking, _ = await ports(client)
    async with client.connect_port(AGENT, speaking) as port:
        await port.send(b"hello")
        assert await port.receive() == b"HELLO"
        [worker] = [one for one in net.named("worker") if one.pid in listeners(speaking)]
        worker.kill()
        assert await port.receive() == b""
    await client.wait("agent", AGENT, "condition=Ready", timeout_s=60)


def listeners(port: int) -> set[int]:
    import psutil

    return {each.pid for each in psutil.net_connections("tcp") if each.laddr.port == port and each.pid}


@pytest.mark.parametrize("script", [WITH_KUBERNETES, WITH_KR8S], ids=["kubernetes", "kr8s"])
async def test_python_clients_reach_ports_of_pods(net: UpProcess, client: Client, script: str):
    speaking, _ = await ports(client)
    done = subprocess.run(
        [sys.executable, "-c", script, AGENT, str(speaking)],
        env=net.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "HELLO\n"), done.stderr


async def test_kubectls_own_command_is_told_which_one_does(net: UpProcess):
    result = net.run("kubectl", "port-forward", f"pod/{AGENT}", ":80")
    assert result.code == 1
    assert "kubectl choregos port-forward" in result.err


async def test_a_port_that_is_taken_is_told(net: UpProcess):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = net.choregos("port-forward", AGENT, f"{port}:80")
    assert result.code == 7
    assert f"port {port} of 127.0.0.1 cannot be listened on" in result.err
