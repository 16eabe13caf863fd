"""`choregos up` in the foreground: says what is where, and waits to be told to end."""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import sys
from pathlib import Path

from choregos.assembly.machine.options import UpOptions
from choregos.assembly.machine.up import Machine
from choregos.assembly.services.running import raise_descriptor_limit, until_signal


async def run_up(options: UpOptions) -> None:
    """Runs the machine until a signal says that it is enough."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    raise_descriptor_limit()  # also nats-server's
    await until_signal(_keep_up(options))
    say("choregos has ended. What was declared is kept: the next `choregos up` takes it up again.")


async def _keep_up(options: UpOptions) -> None:
    say("choregos is starting …")
    async with Machine(options) as machine:
        say(_welcome(machine))
        await asyncio.get_running_loop().create_future()


def _welcome(machine: Machine) -> str:
    config, directory = machine.config, machine.directory
    variables = {"CHOREGOS_DATA_DIR": directory.root, "KUBECONFIG": directory.kubeconfig}
    exported = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())
    if shutil.which("choregos") is None:
        exported += f' PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}'
    return f"""choregos is up: node {config.node} in region {config.region}, API server on {machine.url}.

In another terminal:
  export {exported}
  choregos apply -f examples/customer-service/fleet.yaml
  kubectl get agentclusters,agentsets,agents,agentnodes -o wide
  choregos call --capability conversation.reply reply '{{"message": "Do you ship to Norway?"}}'
  choregos doctor

Logs are in {directory.logs}. Ctrl-C ends everything."""


def say(text: str) -> None:
    """Talks to the person: on stderr, so that stdout holds results only."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
