"""The benchmarks run, at a size that says nothing, and tell what they could not measure."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


ROWS = {
    "fleet": ("| choregos", "| nats-server", "ray was not measured: --no-peers", "xoscar was not measured"),
    "calls": (
        "| nats-py, raw",
        "| choregos, agents, other worker",
        "| choregos, agents, over the bus",
        "p50, same worker, against other",
    ),
    "api": (
        "| merge-patch an AgentSet",
        "| list 500 Agents as Table",
        "| choregos get agents",
        "kube-apiserver was not measured: --no-peers",
    ),
}


@pytest.mark.real
async def test_every_section_prints_its_tables() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", "--tiny", "--no-peers"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    printed = out.decode()
    assert [row for rows in ROWS.values() for row in rows if row not in printed] == []


def test_a_claim_says_when_it_is_missed_and_when_we_are_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.report import Claim

    assert Claim("ahead as asked", 10, 1000, "us", 100).verdict == "met"
    assert Claim("behind, and that is allowed", 80, 100, "/s", 0.7, more_is_better=True).verdict == "met, behind"
    assert Claim("ahead, but not enough", 50, 100, "kB", 10).verdict == "**missed**"
    assert Claim("nobody asked", 50, 100, "us", None).verdict == "ahead"
