"""exec and cp with a real kubectl: streams, statuses, files, terminals, and what is left when somebody dies."""

from __future__ import annotations

import os
import pty
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
import wsproto
import yaml
from e2e_machine import BIN, UpProcess, applied, cluster, deleted, wait_for
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, RejectConnection, Request

from choregos.client import Client
from choregos.foundation.ids import SystemIds

pytestmark = pytest.mark.real

POD = "shell-worker-0"
ALLOWED = "choregos.dev/exec=allowed"


@pytest.fixture
async def shell(machine: UpProcess, client: Client) -> AsyncIterator[UpProcess]:
    """A machine with one agent beside which commands may be run."""
    await applied(client, cluster("shell", machine.template("worker", "Worker", env={"COLOR": "blue"})))
    machine.kubectl("label", "namespace", "default", ALLOWED, "--overwrite")
    yield machine
    await deleted(client, "shell")


def mark() -> str:
    """A number of seconds by which a `sleep` is known."""
    return "9" + "".join(str(ord(letter) % 10) for letter in SystemIds().suffix(9))


def sleepers(seconds: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


async def test_commands_are_off_until_the_namespace_allows_them(shell: UpProcess):
    shell.kubectl("label", "namespace", "default", "choregos.dev/exec-")
    refused = shell.run("kubectl", "exec", POD, "--", "echo", "hi")
    assert refused.code == 1
    assert f"kubectl label namespace default {ALLOWED}" in refused.err
    shell.kubectl("label", "namespace", "default", ALLOWED)
    assert shell.kubectl("exec", POD, "--", "echo", "hi") == "hi\n"


async def test_streams_statuses_and_surroundings(shell: UpProcess):
    done = shell.run("kubectl", "exec", POD, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.code, done.out) == (7, "out\n")
    assert done.err.splitlines() == ["err", "command terminated with exit code 7"]
    assert shell.kubectl("exec", "-i", POD, "-c", "agent", "--", "tr", "a-z", "A-Z", given="hello\n") == "HELLO\n"
    assert shell.kubectl("exec", POD, "--", "printenv", "COLOR", "CHOREGOS_AGENT") == f"blue\ndefault/{POD}\n"
    assert shell.kubectl("exec", POD, "--", "pwd").strip() == os.getcwd()  # noqa: PTH109 (as the shell prints it)
    missing = shell.run("kubectl", "exec", POD, "--", "choregos-no-such-program")
    assert (missing.code, "choregos-no-such-program: not found" in missing.err) == (127, True)
    large = shell.kubectl("exec", POD, "--", "head", "-c", "3000000", "/dev/zero")
    assert len(large) == 3_000_000


async def test_files_and_folders_go_there_and_back(shell: UpProcess):
    sent, kept = shell.places / "sent", shell.places / "kept"
    (sent / "deep").mkdir(parents=True)
    content = os.urandom(3_000_000)
    (sent / "deep" / "large.bin").write_bytes(content)
    (sent / "empty").touch()
    shell.kubectl("cp", str(sent), f"{POD}:{kept}")
    assert (kept / "deep" / "large.bin").read_bytes() == content
    assert (kept / "empty").exists()
    back = shell.places / "back.bin"
    shell.kubectl("cp", f"{POD}:{kept}/deep/large.bin", str(back))
    assert back.read_bytes() == content


def typed(shell: UpProcess, *argv: str) -> str:
    """What a person sees who runs kubectl in a terminal."""
    near, far = pty.openpty()
    with subprocess.Popen(
        [str(BIN / "kubectl"), *argv],
        env={**shell.environment, "TERM": "xterm"},
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    ) as process:
        os.close(far)
        seen = b""
        while True:
            try:
                data = os.read(near, 4096)
            except OSError:  # the terminal has no other side any more
                break
            if b"password" in (seen := seen + data) and b"secret" not in seen:
                os.write(near, b"secret\r")
        process.wait(30)
    os.close(near)
    return seen.decode()


async def test_a_terminal_reaches_through(shell: UpProcess):
    script = "tty; stty -echo; printf 'password: '; read word; stty echo; echo; echo ${#word} letters"
    seen = typed(shell, "exec", "-it", POD, "--", "sh", "-c", script)
    assert "/dev/pts/" in seen
    assert "6 letters" in seen


@contextmanager
def running(shell: UpProcess, seconds: str) -> Iterator[subprocess.Popen[bytes]]:
    """A kubectl whose command has begun, with a child that is hard to end."""
    script = f"trap '' HUP TERM; setsid sleep {seconds} & sleep {seconds}"
    argv = [str(BIN / "kubectl"), "exec", "-i", POD, "--", "sh", "-c", script]
    with subprocess.Popen(argv, env=shell.environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(lambda: len(sleepers(seconds)) == 2, "the command runs")
        try:
            yield process
        finally:
            process.kill()


async def test_when_the_client_is_killed_nothing_is_left(shell: UpProcess):
    seconds = mark()
    with running(shell, seconds) as kubectl:
        kubectl.kill()
        wait_for(lambda: not sleepers(seconds), "all that was started has ended")
    assert shell.kubectl("exec", POD, "--", "echo", "others go on") == "others go on\n"


async def test_when_the_agent_goes_its_commands_do(shell: UpProcess):
    seconds = mark()
    with running(shell, seconds) as kubectl:
        shell.kubectl("delete", "pod", POD, "--timeout=60s")
        wait_for(lambda: not sleepers(seconds), "all that was started has ended")
        assert kubectl.wait(30) == 128 + 1
        assert kubectl.stderr is not None
        assert b"the agent has left the worker" in kubectl.stderr.read()


@pytest.mark.parametrize("role", ["node", "api"])
async def test_when_the_node_or_the_api_server_is_killed_nothing_is_left(shell: UpProcess, client: Client, role: str):
    seconds = mark()
    with running(shell, seconds) as kubectl:
        shell.only(role).kill()
        # A node that hears nothing from the API server any more ends a command after 12 s.
        wait_for(lambda: not sleepers(seconds), "all that was started has ended")
        assert kubectl.wait(60) != 0
    await client.wait("agentcluster", "shell", "condition=Ready", timeout_s=60.0)
    wait_for(lambda: shell.run("kubectl", "exec", POD, "--", "echo", "back").out == "back\n", "commands run again")


class RawSocket:
    """A WebSocket that says whatever it is told to say, past every library's good manners."""

    def __init__(self, shell: UpProcess, command: str = "cat") -> None:
        config = yaml.safe_load((shell.root / "kubeconfig").read_text())
        server = config["clusters"][0]["cluster"]["server"].removeprefix("https://")
        host, port = server.split(":")
        context = ssl.create_default_context(cafile=str(shell.root / "pki" / "ca.crt"))
        context.load_cert_chain(shell.root / "pki" / "user-admin.pem")
        self.socket = context.wrap_socket(socket.create_connection((host, int(port)), 30), server_hostname=host)
        self.machine = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        target = f"/api/v1/namespaces/default/pods/{POD}/exec?command={command}&stdin=true"
        self.say(self.machine.send(Request(host=host, target=target, subprotocols=["v5.channel.k8s.io"])))
        accepted = self.next()
        assert isinstance(accepted, AcceptConnection), accepted

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> wsproto.events.Event | None:
        """The next event; None when the server has closed the connection."""
        while True:
            for event in self.machine.events():
                if not (isinstance(event, BytesMessage) and len(event.data) <= 1):
                    return event
            try:
                data = self.socket.recv(65536)
            except OSError:
                return None
            if not data:
                return None
            self.machine.receive_data(data)

    def until_closed(self) -> None:
        while (event := self.next()) is not None and not isinstance(event, CloseConnection | RejectConnection):
            pass


HOSTILE = {
    "nonsense": b"\x00" * 50 + b"GET / HTTP/1.1\r\n\r\n" * 100,
    "a frame that is not masked": b"\x82\x05\x00hello",
    "a frame of an exabyte": b"\x82\xff" + b"\x0f" + b"\xff" * 7 + bytes(5_000_000),
    "an unknown kind of frame": b"\x8b\x80\0\0\0\0",
    "a part of nothing": b"\x80\x85\0\0\0\0\0hell",
    "a large control frame": b"\x89\xfe\x01\x00\0\0\0\0" + b"x" * 256,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
async def test_a_client_that_speaks_no_websocket_is_cut_off_and_nobody_minds(shell: UpProcess, data: bytes):
    hostile = RawSocket(shell)
    hostile.say(data)
    with suppress(wsproto.utilities.RemoteProtocolError):
        hostile.until_closed()
    hostile.socket.close()
    assert shell.kubectl("exec", POD, "--", "echo", "others go on") == "others go on\n"


async def test_a_message_that_is_too_large_is_cut_off(shell: UpProcess):
    hostile = RawSocket(shell)
    part = b"\0" * 1_000_000
    with suppress(OSError):
        for _ in range(20):  # 20 MB in one message that never ends
            hostile.say(hostile.machine.send(BytesMessage(data=part, message_finished=False)))
    hostile.until_closed()
    hostile.socket.close()


async def test_a_client_that_pings_and_never_listens_is_cut_off(shell: UpProcess):
    hostile = RawSocket(shell, "yes")
    hostile.socket.settimeout(30)
    before = shell.only("api").memory_info().rss
    ping = hostile.machine.send(Ping(payload=b"x" * 125)) * 1000
    with suppress(OSError):
        for _ in range(2000):  # 260 MB of pings, each to be answered
            hostile.say(ping)
    assert shell.only("api").memory_info().rss - before < 100 * 1024 * 1024
    hostile.socket.close()


async def test_a_client_that_does_not_read_holds_up_nobody(shell: UpProcess):
    slow = RawSocket(shell, "yes")
    before = shell.only("api").memory_info().rss
    assert shell.kubectl("exec", POD, "--", "echo", "others go on") == "others go on\n"
    assert shell.only("api").memory_info().rss - before < 50 * 1024 * 1024
    assert [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["yes"]]
    slow.socket.close()
    wait_for(
        lambda: not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["yes"]],
        "the command ends with its client",
    )
