"""Fifty watches, and what they look at is killed: a server, nats-server. What they show is what the log says."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_machine import UpProcess, wait_for
from e2e_replicas import (
    CONFIGMAPS,
    Servers,
    configmap,
    dice,
    servers_of,
    summary,
    until_each_has_written,
    writing_and_reading,
)
from e2e_watchers import GET, Crowd, Program, RawWatch, check_against, history, truth_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

__all__ = ["dice"]


@pytest.fixture(scope="module")
def servers(machine: UpProcess) -> Iterator[Servers]:
    with servers_of(machine, beside=2) as servers:
        yield servers


async def test_watches_of_a_killed_server_go_on_at_another_or_when_it_is_back(
    servers: Servers, machine: UpProcess, dice: random.Random, tmp_path: Path
):
    _, other, third = servers.urls
    async with servers.connections() as connections, history(machine) as written:
        first, *others = connections
        moving = [RawWatch(others) for _ in range(20)]
        staying = [RawWatch(others[:1]) for _ in range(12)]
        kubectls = [
            Program(machine, [other, third], tmp_path / f"k{number}", "kubectl", *GET, "--output-watch-events")
            for number in range(3)
        ]
        ours = [Program(machine, [other], tmp_path / f"c{number}", "choregos", *GET) for number in range(3)]
        async with Crowd(servers, [*moving, *staying], [other] * 12, [*kubectls, *ours]) as crowd:
            async with writing_and_reading([first], dice, "killed", 4) as authors:
                for victim in servers.replicas:
                    await until_each_has_written(authors, 8)
                    victim.kill()
                    await until_each_has_written(authors, 3)
                    victim.start()
                    await servers.until_all_answer()
                    crowd.look_after_programs()
                await until_each_has_written(authors, 5)
            assert (summary(authors)["unknown"], summary(authors)["unseen"]) == (0, 0)
            await crowd.until_all_is_shown(await truth_of(first))
        for raw in (*moving, *staying):
            check_against(raw, written)
        assert {(raw.broken, len(raw.pictures)) for raw in moving} == {(2, 1)}, "none has listed again"
        assert [program.ends > 0 for program in (*kubectls, *ours)] == [True] * 3 + [False] * 3


async def test_an_outage_is_told_and_nothing_is_made_up(servers: Servers, machine: UpProcess):
    created = configmap("outage", 1)
    machine.process.send_signal(signal.SIGSTOP)  # it would start nats-server again at once
    try:
        machine.only("nats-server").kill()
        for url in servers.urls:
            for method, path, body in (
                ("POST", CONFIGMAPS, created),
                ("PATCH", f"{CONFIGMAPS}/kube-root-ca.crt", {"data": {}}),
                ("DELETE", f"{CONFIGMAPS}/outage", None),
                ("GET", CONFIGMAPS, None),
                ("GET", "/apis/choregos.dev/v1/namespaces/default/agents", None),
                ("GET", f"{CONFIGMAPS}?watch=true", None),
            ):
                code, headers, told = servers.ask(url, method, path, body)
                assert code in (503, 504), (method, path, told)
                assert int(headers["Retry-After"]) >= 1
                assert told["kind"] == "Status"
            for path in (f"{CONFIGMAPS}?resourceVersion=0", "/apis", "/healthz"):
                assert servers.ask(url, "GET", path)[0] == 200
            assert servers.ask(url, "GET", "/readyz")[0] == 500
    finally:
        machine.process.send_signal(signal.SIGCONT)
    await servers.until_all_answer()
    for url in servers.urls:
        assert servers.ask(url, "GET", f"{CONFIGMAPS}/outage")[0] == 404, "it was refused, so it is not there"


async def test_watches_do_not_end_when_nats_server_is_killed_and_show_what_comes_after(
    servers: Servers, machine: UpProcess, dice: random.Random, tmp_path: Path
):
    async with servers.connections() as connections:
        raws = [RawWatch([connections[number % 3]]) for number in range(40)]
        programs = [
            Program(machine, [url], tmp_path / f"k{number}", "kubectl", *GET, "--output-watch-events")
            for number, url in enumerate(servers.urls)
        ]
        async with Crowd(servers, raws, servers.urls * 2, programs) as crowd:
            async with writing_and_reading(connections, dice, "bus", 6) as authors:
                for _ in range(2):
                    await until_each_has_written(authors, 5)
                    bus = machine.only("nats-server")
                    bus.kill()
                    wait_for(lambda bus=bus: not bus.is_running(), "nats-server ended")
                    await servers.until_all_answer()
                await until_each_has_written(authors, 1)
                marks = [len(author.revisions) for author in authors]
                await until_each_has_written(authors, 8)
            print(summary(authors))
            await crowd.until_all_is_shown(await truth_of(connections[0]))
        late = {at for author, mark in zip(authors, marks, strict=True) for at in author.revisions[mark:]}
        for raw in raws:
            assert (raw.broken, len(raw.pictures)) == (0, 1)
            assert late <= {each.revision for each in raw.seen}
        assert [program.ends for program in programs] == [0, 0, 0]
