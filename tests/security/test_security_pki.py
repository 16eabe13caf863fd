"""The local authority: what it issues works for a real kubectl, and a damaged directory is repaired or named."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Permanent
from choregos.security.pki import ADMINISTRATORS, LEAF_LIFE, Authority, load_identity, server_names


class LaterClock(SystemClock):
    """The system's clock, some time from now."""

    def __init__(self, later: timedelta) -> None:
        self._later_ms = int(later.total_seconds() * 1000)

    def wall_ms(self) -> int:
        return super().wall_ms() + self._later_ms


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "pki"


def open_authority(directory: Path, later: timedelta = timedelta()) -> Authority:
    return Authority.open(directory, LaterClock(later))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_private_is_for_the_owner_only(directory: Path) -> None:
    authority = open_authority(directory)
    authority.server(server_names("here"))
    authority.client("admin", [ADMINISTRATORS])
    assert mode(directory) == 0o700
    assert {path.name: mode(path) for path in directory.iterdir()} == {
        "ca.pem": 0o600,
        "ca.crt": 0o644,
        "server.pem": 0o600,
        "user-admin.pem": 0o600,
    }
    assert b"PRIVATE" not in authority.certificate_path.read_bytes()


def test_a_second_start_finds_the_same_identities(directory: Path) -> None:
    first, second = open_authority(directory), open_authority(directory)
    assert first.pem == second.pem
    assert first.server(["a"]).certificate == second.server(["a"]).certificate
    assert first.client("u", ["g"]).certificate == second.client("u", ["g"]).certificate


def test_the_server_certificate_covers_the_usual_names(directory: Path) -> None:
    certificate = open_authority(directory).server(server_names("here", ["10.0.0.7"])).certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = set(names.get_values_for_type(x509.DNSName))
    assert dns == {"localhost", "here", "choregos", "kubernetes", "kubernetes.default"}
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "10.0.0.7"}


def test_a_client_certificate_names_user_and_groups(directory: Path) -> None:
    subject = open_authority(directory).client("ann", ["team-b", "team-a"]).certificate.subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["ann"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["team-a", "team-b"]


def test_a_user_name_cannot_leave_the_directory(directory: Path) -> None:
    path = open_authority(directory).client("../../ca").path
    assert path.parent == directory
    assert open_authority(directory).pem


def test_new_names_or_groups_bring_a_new_certificate(directory: Path) -> None:
    authority = open_authority(directory)
    assert authority.server(["a"]).certificate != authority.server(["a", "b"]).certificate
    assert authority.client("u", ["g"]).certificate != authority.client("u", ["h"]).certificate


def test_a_leaf_is_renewed_in_the_last_third_of_its_life(directory: Path) -> None:
    made = open_authority(directory).server(["a"]).certificate
    assert open_authority(directory, LEAF_LIFE * 0.6).server(["a"]).certificate == made
    renewed = open_authority(directory, LEAF_LIFE * 0.7).server(["a"]).certificate
    assert renewed.not_valid_after_utc > made.not_valid_after_utc


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PRIVATE KEY-----\nMIG", b"\x00\xff" * 100])
def test_a_damaged_leaf_is_issued_again(directory: Path, damage: bytes) -> None:
    authority = open_authority(directory)
    path = authority.server(["a"]).path
    path.write_bytes(damage)
    assert authority.server(["a"]).certificate == load_identity(path).certificate


def test_a_leaf_of_another_authority_is_issued_again(directory: Path, tmp_path: Path) -> None:
    foreign = open_authority(tmp_path / "other").server(["a"])
    authority = open_authority(directory)
    (directory / "server.pem").write_bytes(foreign.path.read_bytes())
    authority.server(["a"]).certificate.verify_directly_issued_by(authority.identity.certificate)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nMIG"])
def test_a_damaged_authority_is_named_and_left_alone(directory: Path, damage: bytes) -> None:
    open_authority(directory)
    path = directory / "ca.pem"
    path.write_bytes(damage)
    with pytest.raises(Permanent, match=r"ca\.pem cannot be read.*remove the directory"):
        open_authority(directory)
    assert path.read_bytes() == damage


def test_a_removed_authority_is_not_replaced_under_its_leaves(directory: Path) -> None:
    open_authority(directory).server(["a"])
    (directory / "ca.pem").unlink()
    with pytest.raises(Permanent, match=r"holds server\.pem but not the authority"):
        open_authority(directory)


def test_an_expired_authority_is_named(directory: Path) -> None:
    open_authority(directory)
    with pytest.raises(Permanent, match="expired on"):
        open_authority(directory, timedelta(days=4000))


def test_a_lost_public_certificate_is_written_again(directory: Path) -> None:
    authority = open_authority(directory)
    authority.certificate_path.unlink()
    assert open_authority(directory).certificate_path.read_bytes() == authority.pem


def test_a_key_that_others_could_read_is_closed(directory: Path) -> None:
    open_authority(directory)
    (directory / "ca.pem").chmod(0o644)
    open_authority(directory)
    assert mode(directory / "ca.pem") == 0o600


def test_python_takes_them_under_its_strictest_check(directory: Path) -> None:
    authority = open_authority(directory)
    server, client = authority.server(["localhost"]), authority.client("admin", [ADMINISTRATORS])
    flags = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    theirs = ssl.create_default_context(cadata=authority.pem.decode())
    ours.load_cert_chain(server.path)
    theirs.load_cert_chain(client.path)
    ours.verify_mode = ssl.CERT_REQUIRED
    for context in (ours, theirs):
        context.verify_flags |= flags
    a_in, a_out, b_in, b_out = (ssl.MemoryBIO() for _ in range(4))
    server_end = ours.wrap_bio(a_in, a_out, server_side=True)
    client_end = theirs.wrap_bio(b_in, b_out, server_hostname="localhost")
    done = 0
    for end in (client_end, server_end) * 4:
        try:
            end.do_handshake()
            done += 1
        except ssl.SSLWantReadError:
            pass
        a_in.write(b_out.read())
        b_in.write(a_out.read())
    assert done >= 2
    assert server_end.getpeercert(binary_form=True) is not None
    expiry = ssl.cert_time_to_seconds(str((client_end.getpeercert() or {})["notAfter"]))
    assert datetime.fromtimestamp(expiry, UTC) > datetime.now(UTC)
