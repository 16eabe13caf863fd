"""The command line as a whole: its commands, and what becomes of an error.

Invariant: an error of ours ends as one paragraph on stderr and an exit code of `exit_codes`, never as a traceback
(unless `--debug` asks for it). Commands are named by import path and imported when they are run.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, Parameter

from choregos.cli.exit_codes import ExitCode, exit_code
from choregos.cli.output import talk
from choregos.cli.words import UsageError
from choregos.foundation.errors import CallError, ChoregosError, Temporary, Unavailable

log = logging.getLogger(__name__)

DEBUG = "--debug"
LIKE_KUBECTL = "--like-kubectl"
PROGRAM = "choregos"

# Options that may also stand before the command, as kubectl has it; the number of words they take.
_LEADING = {
    "-n": 2,
    "--namespace": 2,
    "--kubeconfig": 2,
    "--context": 2,
    "--server": 2,
    "--data-dir": 2,
    LIKE_KUBECTL: 1,
}

_COMMANDS = (
    ("apply", "changes:apply", "Make objects as manifests say."),
    ("get", "get:get", "Show objects."),
    ("describe", "describe:describe", "Show all about objects, with their events."),
    ("delete", "changes:delete", "Delete objects, and wait until they are gone."),
    ("scale", "changes:scale", "Set how many agents a set shall have."),
    ("wait", "changes:wait", "Wait until objects are as they should be."),
    ("rollout status", "rollout.following:status", "Tell how far a rollout is, until it is done."),
    ("rollout history", "rollout.going_back:history", "Show the templates that sets have had."),
    ("rollout undo", "rollout.going_back:undo", "Go back to an earlier template of a set."),
    ("rollout restart", "rollout.changing:restart", "Replace all agents."),
    ("rollout pause", "rollout.changing:pause", "Have a changed template replace nobody for now."),
    ("rollout resume", "rollout.changing:resume", "Go on with what was paused."),
    ("call", "calling:call", "Call a method of an agent."),
    ("port-forward", "port_forward:port_forward", "Reach ports that an agent listens on."),
    ("logs", "reports:logs", "Print what an agent has logged."),
    ("events", "reports:events", "Show what happened."),
    ("audit", "audit:audit", "Show what was refused, and what privileged was done."),
    ("doctor", "doctor.command:doctor", "Find what is wrong with a set-up, and its remedy."),
    ("version", "reports:version", "Show versions."),
)

_GROUPS = {"rollout": "Follow, repeat and take back changes of templates."}


def build_app(program: str = PROGRAM) -> App:
    """The commands of a client; those that start something are added by whoever knows them."""
    app = App(
        name=program,
        help=(
            "Kubernetes for AI agents.\n\nResults go to stdout, talk to stderr. Exit codes: 0 done, 1 failed, 2 wrong "
            "usage, 3 not found, 4 timed out, 5 refused as invalid, 6 not allowed, 7 unreachable for now. "
            "--debug shows tracebacks."
        ),
        help_formatter="plain",
        help_format="plaintext",
        version_flags=[],
        default_parameter=Parameter(negative_bool=(), negative_iterable=()),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    groups = {"": app}
    for name, summary in _GROUPS.items():
        groups[name] = App(name=name, help=summary)
        app.command(groups[name])
    for words, path, summary in _COMMANDS:
        group, _, name = words.rpartition(" ")
        groups[group].command(f"choregos.cli.{path}", name=name, help=summary)
    return app


def run(arguments: Sequence[str], register: Callable[[App], None] = lambda app: None, *, program: str = PROGRAM) -> int:
    """Runs one command line; returns the exit code.

    Args:
        register: adds further commands.
        program: what the user has called.
    """
    words = [word for word in arguments if word != DEBUG]
    debug = len(words) < len(arguments)
    app = build_app(program)
    register(app)
    try:
        app(_command_first(words), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        _say(_usage(error, program))
        return ExitCode.USAGE
    except UsageError as error:
        _say(str(error))
        return ExitCode.USAGE
    except ChoregosError as error:
        if debug:
            raise
        _say(explain(error))
        return exit_code(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may complain about that when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        if debug:
            raise
        if _has_log_file():
            log.exception("ended by an error inside choregos")
        _say(f"an error inside choregos: {type(error).__name__}: {error}. Run it again with {DEBUG} to see where.")
        return ExitCode.FAILED
    return ExitCode.OK


def run_as_plugin(arguments: Sequence[str]) -> int:
    """As `run`, for `kubectl choregos …`: the same commands, for the server and namespace that kubectl would use."""
    return run([LIKE_KUBECTL, *arguments], program="kubectl choregos")


def explain(error: ChoregosError) -> str:
    """An error as one paragraph, with the remedy where there is one."""
    text = str(error) or type(error).__name__
    if isinstance(error, CallError):
        where = f" ({error.agent})" if error.agent else ""
        text = f"{error.code}{where}: {text}"
        if error.remote_traceback:
            return f"{text}\n\n{error.remote_traceback.rstrip()}"
    if isinstance(error, Unavailable):
        return f"{text}. The call did not start; it is safe to repeat."
    if isinstance(error, Temporary):
        return f"{text}. Is `choregos up` running? `choregos doctor` tells what is wrong."
    return text


def _command_first(words: list[str]) -> list[str]:
    """Options before the command go behind it."""
    leading, rest = _leading(words)
    depth = 1
    if rest and rest[0] in _GROUPS:
        more, behind = _leading(rest[1:])
        leading, rest, depth = leading + more, [rest[0], *behind], 2
    command, rest = rest[:depth], rest[depth:]
    if len(command) < depth or command[-1].startswith("-"):
        return [*command, *rest]  # there is no command to give them to: help
    return [*command, *leading, *rest]


def _leading(words: list[str]) -> tuple[list[str], list[str]]:
    """The options of every command at the beginning, and the rest."""
    end = 0
    while end < len(words):
        name, given, _ = words[end].partition("=")
        if name not in _LEADING:
            break
        end += 1 if given else _LEADING[name]
    return words[:end], words[end:]


def _has_log_file() -> bool:
    """Whether this process keeps a log, as control plane and node do: then a fault must be found in it."""
    return any(isinstance(handler, logging.FileHandler) for handler in logging.getLogger().handlers)


def _usage(error: CycloptsError, program: str) -> str:
    # The names of the command only: `choregos get`.
    chain = " ".join([program, *(error.command_chain or ())])
    return f"{' '.join(str(error).split())} See `{chain} --help`."


def _say(text: str) -> None:
    talk(f"Error: {text}")
