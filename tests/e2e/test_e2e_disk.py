"""A disk that is full: what is refused says so, nothing is half-made, and with space again all goes on by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_fleet import Fleet, hosts, until_event
from e2e_machine import MakeUp, as_yaml, cluster, until

from choregos.assembly.machine.disk import FREE_BYTES_MIN

pytestmark = pytest.mark.real

SIZE_BYTES = FREE_BYTES_MIN + 32 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, a little larger than `choregos up` needs."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "choregos-tests", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Takes all space but so much; returns the file that holds it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave_bytes)
    return filler


@pytest.mark.parametrize("leave_bytes", [0, FREE_BYTES_MIN // 2])
def test_up_does_not_start_on_a_full_disk_and_leaves_nothing(small_disk: Path, make_up: MakeUp, leave_bytes: int):
    filler = fill(small_disk, leave_bytes)
    up = make_up(root=small_disk / "data")
    up.launch()
    assert up.process.wait(30) == 1
    assert f"MiB free, at least {FREE_BYTES_MIN // 2**20} MiB are needed" in up.talk
    assert "--data-dir" in up.talk
    assert list(small_disk.iterdir()) == [filler]
    filler.unlink()
    up.start()
    up.stop()
    fill(small_disk)
    up.launch()
    assert up.process.wait(30) == 1
    assert "MiB are needed" in up.talk


async def test_a_disk_that_runs_full_refuses_writes_and_recovers_by_itself(small_disk: Path, make_up: MakeUp):
    up = make_up(root=small_disk / "data")
    up.start()
    async with up.client() as client:
        fleet = Fleet(up, client, 20)
        await fleet.declare()
        before = await fleet.until_ready()
        filler = fill(small_disk)
        late = cluster("late", up.template("worker", "Worker", 3))
        refused = up.choregos("apply", "-f", "-", given=as_yaml(late))
        assert refused.code == 7
        assert "is full: 0 MiB free" in refused.err
        assert [c["metadata"]["name"] for c in await client.list("agentclusters")] == ["fleet"]
        assert len(await fleet.ask_all()) == 20
        sick = up.choregos("doctor")
        assert sick.code == 1
        assert "FAIL  disk space" in sick.out
        filler.unlink()

        async def accepted() -> bool:
            return up.choregos("apply", "-f", "-", given=as_yaml(late)).code == 0

        await until(accepted, "writes are taken again")
        # What comes while nats-server is started again is refused.
        event = await until_event(client, "BusRestarted")
        assert "the disk was full" in event["message"]
        await client.wait("agentcluster", "late", "condition=Ready", timeout_s=60)
        after = await fleet.verify(before)
        assert hosts(after) == hosts(before)
        assert up.choregos("doctor").code == 0
    up.stop()
