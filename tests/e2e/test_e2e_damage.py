"""A store that has lost records: `up` refuses to go on as if they had never been, and doctor says so too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_machine import UpProcess, applied, cluster

pytestmark = pytest.mark.real

MakeUp = Callable[..., UpProcess]


def overwritten(content: bytearray) -> None:
    content[:] = os.urandom(len(content))


def head_overwritten(content: bytearray) -> None:
    content[:4096] = os.urandom(4096)


def one_bit_flipped(content: bytearray) -> None:
    content[len(content) // 3] ^= 0x40


def cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


async def test_lost_records_are_not_taken_for_records_that_never_were(make_up: MakeUp, tmp_path: Path):
    up = make_up()
    up.start()
    async with up.client() as client:
        await applied(client, cluster("kept", up.template("witness", "Witness", 2)))
    up.stop()
    sound = tmp_path / "sound"
    shutil.copytree(up.root / "nats", sound)
    marks = up.root / "nats" / "watermarks.json"
    for damage in (overwritten, head_overwritten, one_bit_flipped, cut):
        [block] = up.root.glob("nats/**/RESOURCES/msgs/1.blk")
        content = bytearray(block.read_bytes())
        damage(content)
        block.write_bytes(content)
        for _ in range(2):  # nats-server has made the best of it by the second time
            up.launch()
            assert up.process.wait(60) == 1, damage
            assert "is damaged:\n  stream RESOURCES" in up.talk or "bytes of stream RESOURCES" in up.talk
            assert f"restore {up.root / 'nats'} from a backup. Or remove {marks}" in up.talk
            assert not up.processes()
        found = up.choregos("doctor")
        assert "FAIL  store: " in found.out
        assert str(marks) in found.out
        shutil.rmtree(up.root / "nats")
        shutil.copytree(sound, up.root / "nats")
    up.start()
    async with up.client() as client:
        await client.wait("agentcluster", "kept", "condition=Ready", timeout_s=60)
    assert "OK    store: no damage is known" in up.choregos("doctor").out
    up.stop()


def test_what_is_left_of_a_damaged_store_can_be_gone_on_with(make_up: MakeUp):
    up = make_up()
    up.start()
    up.stop()
    [block] = up.root.glob("nats/**/RESOURCES/msgs/1.blk")
    block.write_bytes(os.urandom(block.stat().st_size))
    up.launch()
    assert up.process.wait(60) == 1
    (up.root / "nats" / "watermarks.json").unlink()
    up.start()
    up.stop()
    up.start()
    up.stop()
