"""kubeconfig files: ours is written whole and private, other people's are read or refused with the reason."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from choregos.foundation.errors import Invalid, NotFound
from choregos.security.kubeconfig import ApiAccess, load_kubeconfig, write_kubeconfig

ACCESS = ApiAccess("https://127.0.0.1:7443", b"authority", b"certificate", b"key", namespace="team-a")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, ACCESS)
    assert load_kubeconfig([path]) == ACCESS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_unchanged_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, ACCESS)
    before = path.stat()
    write_kubeconfig(path, ACCESS)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_key_is_in_no_repr() -> None:
    assert "key" not in repr(ACCESS).replace("key_pem", "")


def test_the_first_file_that_defines_a_name_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_kubeconfig(first, ACCESS, name="one")
    write_kubeconfig(second, ApiAccess("https://two:1", b"a", b"c", b"k"), name="two", user="other")
    assert load_kubeconfig([tmp_path / "missing", first, second]).server == ACCESS.server
    assert load_kubeconfig([first, second], context="two").server == "https://two:1"


def document(cluster: dict[str, object], user: dict[str, object]) -> bytes:
    return yaml.safe_dump(
        {
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
    ).encode()


def test_certificates_may_be_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"authority")
    (tmp_path / "token").write_text("secret\n")
    path = tmp_path / "config"
    path.write_bytes(document({"server": "https://x/", "certificate-authority": "ca.crt"}, {"tokenFile": "token"}))
    access = load_kubeconfig([path])
    assert (access.server, access.authority_pem, access.token) == ("https://x", b"authority", "secret")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a kubeconfig"),
        (b"[1", "cannot be read"),
        (b"clusters: []", "no context is chosen"),
        (b"current-context: x", "no context named 'x'"),
        (document({"server": "https://x"}, {"exec": {"command": "aws"}}), "signs in by 'exec'"),
        (document({"server": ""}, {}), "names no server"),
        (document({"server": "https://x", "insecure-skip-tls-verify": True}, {}), "not to verify"),
        (document({"server": "https://x"}, {"client-certificate": "gone.crt"}), "client-certificate cannot be read"),
        (document({"server": "https://x"}, {"client-key-data": "%%%"}), "client-key cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=message):
        load_kubeconfig([path])


def test_no_file_at_all_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no kubeconfig at"):
        load_kubeconfig([tmp_path / "missing"])
