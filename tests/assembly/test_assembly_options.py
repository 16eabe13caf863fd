"""What `choregos up` cannot be asked for is refused before anything is written, with the option and what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from choregos.assembly.commands import register
from choregos.assembly.machine.options import UpOptions, parse_capacity
from choregos.cli.app import run
from choregos.cli.exit_codes import ExitCode
from choregos.foundation.errors import Invalid


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--capacity", "cpu=-1"], "--capacity: cpu=-1: more than 0 is needed; leave it out"),
        (["--capacity", "cpu=0"], "--capacity: cpu=0: more than 0 is needed"),
        (["--capacity", "agents=1.5"], "--capacity: agents=1.5: a whole number is needed"),
        (["--capacity", "memory=lots"], "--capacity: memory: expected a quantity, such as 500m or 4Gi, found 'lots'"),
        (["--capacity", "cpu=1,cpu=2"], "--capacity: cpu is given twice"),
        (["--capacity", "disk=1"], "--capacity: 'disk=1' is not one of cpu=QUANTITY"),
        (["--workers", "-1"], "--workers: from 1 to 1024, or 0 for one per core; found -1"),
        (["--workers", "1000000"], "--workers: from 1 to 1024"),
        (["--name", "Ünï"], "--name: 'Ünï' must be lower-case letters, digits, '-' and '.'"),
        (["--region", "eu west"], "--region: 'eu west' must be letters, digits, '-', '_' and '.'"),
        (["--api-port", "99999"], "--api-port: a port is from 1 to 65535, or 0 for any free one; found 99999"),
        (["--api-port", "-1"], "--api-port: a port is from 1 to 65535"),
    ],
)
def test_options_without_sense_are_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "data"
    assert run(["up", "--data-dir", str(directory), *words], register) == ExitCode.INVALID
    assert told in capsys.readouterr().err
    assert not directory.exists()


@pytest.mark.parametrize("port", ["0", "-1", "99999"])
def test_a_further_api_server_needs_a_port_that_there_is(
    port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["api", "--data-dir", str(tmp_path), "--api-port", port], register) == ExitCode.INVALID
    assert f"--api-port: a port is from 1 to 65535; found {port}" in capsys.readouterr().err


def test_every_option_at_fault_is_told() -> None:
    options = UpOptions(Path("data"), region="-", node="Ünï", workers=-1, capacity={"cpu": "0", "memory": "-1Gi"})
    with pytest.raises(Invalid) as caught:
        options.check()
    assert [cause.path for cause in caught.value.causes] == [
        "--region", "--name", "--workers", "--capacity", "--capacity",
    ]  # fmt: skip


def test_what_makes_sense_is_accepted() -> None:
    UpOptions(Path("data")).check()
    capacity = parse_capacity("cpu=128,memory=512Gi,gpu=0,agents=1k")
    assert capacity == {"cpu": "128", "memory": "512Gi", "gpu": "0", "agents": "1k"}
    UpOptions(Path("d"), region="eu-west", node="node-1.example", api_port=65535, workers=1, capacity=capacity).check()
