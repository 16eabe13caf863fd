"""What the user's environment says. The only reader of the environment; what it returns is handed on as a value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA_DIRECTORY_VARIABLE = "CHOREGOS_DATA_DIR"
DATA_DIRECTORY_DEFAULT = ".choregos"


@dataclass(frozen=True, slots=True)
class Environment:
    """What the user's environment says.

    Attributes:
        data_directory: `$CHOREGOS_DATA_DIR`, else `.choregos` in the working directory; absolute.
        kubeconfigs: the files of `$KUBECONFIG` in order; empty when it is not set.
        home: the user's home directory.
    """

    data_directory: Path
    kubeconfigs: tuple[Path, ...]
    home: Path


def load_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Reads `variables`, by default those of this process."""
    variables = os.environ if variables is None else variables
    data_directory = Path(variables.get(DATA_DIRECTORY_VARIABLE) or DATA_DIRECTORY_DEFAULT).expanduser()
    return Environment(
        data_directory=Path.cwd() / data_directory,
        kubeconfigs=tuple(Path(part) for part in variables.get("KUBECONFIG", "").split(os.pathsep) if part),
        home=Path(variables.get("HOME") or "/"),
    )


def environment_with(variables: Mapping[str, str]) -> Mapping[str, str]:
    """This process's environment and these variables, for a child."""
    return {**os.environ, **variables}


def add_to_environment(variables: Mapping[str, str]) -> None:
    """Sets variables of this process, for code that reads them there: that of an agent which has the process alone."""
    os.environ.update(variables)
