"""A real kubectl takes our kubeconfig, authority and certificates, and shows its own to a server that asks."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from choregos.foundation.clock import SystemClock
from choregos.security.kubeconfig import ApiAccess, write_kubeconfig
from choregos.security.pki import ADMINISTRATORS, Authority, server_names


class WhoAmI(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the subject of the client's certificate."""

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        subject = (self.connection.getpeercert() or {})["subject"]
        body = json.dumps(subject).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "pki", SystemClock())


@pytest.fixture
def port(authority: Authority) -> Iterator[int]:
    """Where a TLS server listens that demands a certificate of our authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    context.load_cert_chain(authority.server(server_names("here")).path)
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), WhoAmI) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = Path(sys.executable).with_name("kubectl")
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_kubectl_signs_in_with_the_certificate(authority: Authority, port: int, tmp_path: Path, host: str) -> None:
    admin = authority.client("admin", [ADMINISTRATORS])
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, ApiAccess(f"https://{host}:{port}", authority.pem, admin.certificate_pem, admin.key_pem))
    result = kubectl("--kubeconfig", str(path), "get", "--raw", "/whoami")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [[["organizationName", ADMINISTRATORS]], [["commonName", "admin"]]]


@pytest.mark.real
def test_kubectl_refuses_a_server_of_another_authority(authority: Authority, port: int, tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "other", SystemClock())
    admin = other.client("admin")
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, ApiAccess(f"https://127.0.0.1:{port}", other.pem, admin.certificate_pem, admin.key_pem))
    result = kubectl("--kubeconfig", str(path), "get", "--raw", "/whoami")
    assert result.returncode != 0
    assert "certificate signed by unknown authority" in result.stderr
