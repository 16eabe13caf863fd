"""Agents that are Python classes: finds the class a template names, and makes instances of it.

A relative directory is relative to the working directory of the process at its start: a node's, which its workers
inherit. A worker imports a module once and keeps it. So that a changed file never runs half old and half new, `stale`
tells when a module under the template's paths is older here than on disk; such a template is for a fresh worker.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from choregos.foundation.errors import ChoregosError
from choregos.messaging.tracebacks import format_traceback
from choregos.sdk.agent import Agent
from choregos.sdk.binding import describe
from choregos.wire.worker import Template

ENTRY_POINT_GROUP = "choregos.agents"


class CannotLoad(ChoregosError):
    """The template's class cannot be had; the message tells its author why."""


class NotProvided(CannotLoad):
    """Nothing installed here offers what the template asks for by name; it may be installed later."""


class PythonCode(msgspec.Struct, frozen=True):
    """A template's class, ready to make agents of.

    Attributes:
        capabilities: those the class declares.
    """

    agent_class: type[Agent]
    capabilities: tuple[str, ...]


class PythonRuntime:
    """The classes of one worker process. `load` may run in a thread other than the event loop's."""

    def __init__(self) -> None:
        # Taken now: an agent may change it.
        self._directory = Path.cwd()
        # File of an imported module of an author's directory → its modification time when it was imported.
        self._imported: dict[str, int] = {}

    def load(self, template: Template) -> PythonCode:
        """Imports what the template names.

        Raises:
            NotProvided: no installed package has the template's entry point.
            CannotLoad: with the traceback, if the author's module raised.
        """
        paths = self._absolute(template.paths)
        for path in reversed(paths):
            _require_directory(path)
            if path not in sys.path:
                sys.path.insert(0, path)
        importlib.invalidate_caches()
        target = (
            _import_entry_point(template.entry_point) if template.entry_point else _import_named(template.python, paths)
        )
        try:
            capabilities = tuple(describe(target))
        except TypeError as error:
            raise CannotLoad(str(error)) from error
        finally:
            self._remember(paths)
        return PythonCode(target, capabilities)

    def stale(self, template: Template) -> str:
        """The file under the template's paths that changed since it was imported here, empty if there is none."""
        paths = self._absolute(template.paths)
        for file, modified in self._imported.items():
            if file.startswith(paths) and _modified(file) != modified:
                return file
        return ""

    def _absolute(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(self._directory / path) for path in paths)

    def _remember(self, paths: tuple[str, ...]) -> None:
        for file in _imported_files(paths):
            self._imported.setdefault(file, _modified(file))


def _require_directory(path: str) -> None:
    if not Path(path).exists():
        raise CannotLoad(
            f"runtime.path: there is no directory {path} on this node; a relative path is relative to the directory in "
            "which `choregos up` was started: start it in the right one, or give an absolute path"
        )


def _import_named(python: str, paths: tuple[str, ...]) -> type[Agent]:
    module_name, _, class_name = python.partition(":")
    if not module_name or not class_name:
        raise CannotLoad(f"runtime.python must be `module:Class`, not {python!r}")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        raise CannotLoad(_why_not_imported(error, module_name, paths)) from error
    try:
        found: type[Agent] = functools.reduce(getattr, class_name.split("."), module)  # type: ignore[assignment]
    except AttributeError as error:
        file = getattr(module, "__file__", None) or module_name
        raise CannotLoad(f"{file} has no {class_name!r}") from error
    return found


def _why_not_imported(error: BaseException, module_name: str, paths: tuple[str, ...]) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
        where = ", ".join(paths) if paths else "the installed packages"
        return f"there is no module {error.name!r} in {where}; set runtime.path or install the package that has it"
    return f"importing {module_name!r} failed\n{format_traceback(error)}"


def _import_entry_point(name: str) -> type[Agent]:
    from importlib import metadata  # slow to import, and most templates name a class

    found = tuple(metadata.entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        raise NotProvided(
            f"no installed package offers an agent {name!r} (entry point group {ENTRY_POINT_GROUP}); "
            "install one, or set runtime.python and runtime.path"
        )
    if len(found) > 1:
        owners = ", ".join(sorted(point.dist.name if point.dist else point.value for point in found))
        raise CannotLoad(f"several installed packages offer an agent {name!r}: {owners}; set runtime.python")
    try:
        agent_class: type[Agent] = found[0].load()
    except BaseException as error:
        raise CannotLoad(f"loading {found[0].value!r} failed\n{format_traceback(error)}") from error
    return agent_class


def _imported_files(paths: tuple[str, ...]) -> Iterator[str]:
    for module in tuple(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(paths) and paths:
            yield file


def _modified(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0
