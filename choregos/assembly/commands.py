"""The commands that run something: `up`, its processes, and `demo`. All others are those of `choregos.cli`, a client.

Heavy imports are inside the functions, so that `choregos get` does not pay for a server it does not start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

API_PORT_DEFAULT = 7443
EXAMPLE_DEFAULT = Path("examples/customer-service")

DataDirectoryOption = Annotated[Path | None, Parameter(name="--data-dir", help="Where everything is kept.")]


def register(app: App) -> None:
    """Adds the commands to the command line."""
    for command in (up, api, control, node, demo):
        app.command(command)


def up(
    *,
    data_dir: DataDirectoryOption = None,
    workers: int = 0,
    capacity: str = "",
    region: str = "",
    name: str = "",
    api_port: int = API_PORT_DEFAULT,
) -> None:
    """Start a whole fleet on this machine and keep it running until Ctrl-C.

    Starts nats-server, the control plane and a node, takes up what was declared in the data directory, and writes a
    kubeconfig there.

    Parameters
    ----------
    workers
        Shared worker processes per namespace; 0 means one per core.
    capacity
        Declared capacity instead of the machine's own, to try manifests that are larger than it:
        `cpu=128,memory=512Gi,gpu=64`.
    region
        The region that this machine belongs to; by default the data directory's, which is `local` in a new one.
    name
        Name of the machine's AgentNode; by default the host name.
    api_port
        Where the API server listens on 127.0.0.1; 0 takes any free port.
    """
    import asyncio

    from choregos.assembly.machine.options import UpOptions, parse_capacity
    from choregos.assembly.session import run_up

    options = UpOptions(
        data_directory=_directory(data_dir),
        region=region,
        node=name,
        api_port=api_port,
        workers=workers,
        capacity=parse_capacity(capacity),
    )
    asyncio.run(run_up(options))


def api(*, data_dir: DataDirectoryOption = None, api_port: int | None = None) -> None:
    """Run an API server of a data directory that `choregos up` has prepared.

    `choregos up` runs this as one of its processes; more of them may run, each on a port of its own.

    Parameters
    ----------
    api_port
        Where it listens on the API's address; by default where `choregos up` has put it.
    """
    from choregos.assembly.machine.layout import DataDirectory
    from choregos.assembly.machine.options import require_port
    from choregos.assembly.services.api import run_api
    from choregos.assembly.services.running import run_service

    if api_port is not None:
        require_port("--api-port", api_port)
    directory = DataDirectory(_directory(data_dir))
    name = (
        f"api-{api_port}" if api_port is not None else "api"
    )  # a log of its own: two processes cannot rotate one file
    run_service(name, directory, lambda config: run_api(directory, config, api_port or config.api_port))


def control(*, data_dir: DataDirectoryOption = None) -> None:
    """Run the controllers of a data directory that `choregos up` has prepared.

    `choregos up` runs this as one of its processes.
    """
    from choregos.assembly.machine.layout import DataDirectory
    from choregos.assembly.services.control import run_control
    from choregos.assembly.services.running import run_service

    directory = DataDirectory(_directory(data_dir))
    run_service("control", directory, lambda config: run_control(directory, config))


def node(*, data_dir: DataDirectoryOption = None) -> None:
    """Run the node of a data directory that `choregos up` has prepared: the host of its agents.

    `choregos up` runs this as one of its processes.
    """
    from choregos.assembly.machine.layout import DataDirectory
    from choregos.assembly.services.node import run_node
    from choregos.assembly.services.running import run_service

    directory = DataDirectory(_directory(data_dir))
    run_service("node", directory, lambda config: run_node(directory, config))


def demo(example: Path = EXAMPLE_DEFAULT, /, *, data_dir: DataDirectoryOption = None) -> None:
    """Start a fleet, apply an example, talk to it, tell what happened, and end.

    Parameters
    ----------
    example
        Folder with `fleet.yaml`, the manifest, and `conversation.yaml`, what is said to it.
    data_dir
        By default a temporary one that is removed at the end.
    """
    import asyncio

    from choregos.assembly.demo import run_demo

    asyncio.run(run_demo(example, data_dir))


def _directory(chosen: Path | None) -> Path:
    from choregos.foundation.settings import load_environment

    return (Path.cwd() / chosen) if chosen is not None else load_environment().data_directory
