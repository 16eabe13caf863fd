"""The style rules that a machine can check, over every Python file of the repository.

An offence is reported with its file and line. What may be larger than the rule stands in a table here with its
reason, and even that has a hard limit: beyond it the thing is split, whatever the reason.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("choregos", "tests", "examples", "benchmarks")

FILE_LINES, FILE_LINES_HARD = 500, 800
FUNCTION_LINES, FUNCTION_LINES_HARD = 50, 80
PARAMETERS = 7
PACKAGE_FILES = 14

LONG_FILES: dict[str, str] = {}
"""Path → why it is one thing that would read worse in two files."""

LONG_FUNCTIONS: dict[str, str] = {}
"""`path:qualified.name` → why it is one thing."""

MANY_PARAMETERS: dict[str, str] = {}
"""`path:qualified.name` → why its caller is served by that many."""

OWNED_CALLS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"datetime\.(now|utcnow|today)|date\.today", "a Clock", ("choregos/foundation/clock.py",)),
    (r"time\.(time|time_ns)", "a Clock", ("choregos/foundation/clock.py",)),
    (r"uuid[145]|uuid\.uuid[145]", "foundation.ids", ("choregos/foundation/ids.py",)),
    (r"(\w+\.)*create_task|(asyncio\.)?ensure_future", "foundation.tasks.Tasks", ("choregos/foundation/tasks.py",)),
    (r"asyncio\.timeout(_at)?", "foundation.timeout", ("choregos/foundation/timeout.py",)),
)
"""Call → who has it instead → the only places that may make it."""

ENVIRONMENT_READERS = ("choregos/foundation/settings.py",)
VAGUE_NAMES = re.compile(r"(^|_)(utils?|common|helpers?|base|managers?|misc)$")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function of the tree with its qualified name, nested ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef):
            name = f"{prefix}{node.name}"
            if isinstance(node, Function):
                yield name, node
            yield from functions(node, f"{name}.")
        else:
            yield from functions(node, prefix)


def file_lengths() -> Iterator[str]:
    for path in python_files(*FOLDERS):
        lines = path.read_text(encoding="utf-8").count("\n")
        limit = FILE_LINES_HARD if shown(path) in LONG_FILES else FILE_LINES
        if lines > limit:
            yield f"{shown(path)}:1: {lines} lines, at most {limit}"


def function_lengths() -> Iterator[str]:
    for path in python_files(*FOLDERS):
        for name, node in functions(parsed(path)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = FUNCTION_LINES_HARD if f"{shown(path)}:{name}" in LONG_FUNCTIONS else FUNCTION_LINES
            if lines > limit:
                yield f"{shown(path)}:{node.lineno}: {name} has {lines} lines, at most {limit}"


def parameter_counts() -> Iterator[str]:
    for path in python_files(*FOLDERS):
        for name, node in functions(parsed(path)):
            given = node.args
            names = [parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = sum(1 for parameter in names if parameter not in ("self", "cls"))
            if count > PARAMETERS and f"{shown(path)}:{name}" not in MANY_PARAMETERS:
                yield f"{shown(path)}:{node.lineno}: {name} takes {count} parameters, at most {PARAMETERS}"


def package_sizes() -> Iterator[str]:
    for folder, count in sorted(Counter(path.parent for path in python_files("choregos")).items()):
        if count > PACKAGE_FILES:
            yield f"{shown(folder)}:1: {count} modules in one package, at most {PACKAGE_FILES}"


def vague_names() -> Iterator[str]:
    for path in python_files(*FOLDERS):
        for part in (*path.relative_to(ROOT).parent.parts, path.stem):
            if VAGUE_NAMES.search(part):
                yield f"{shown(path)}:1: {part!r} does not say what is in it"


def missing_docstrings() -> Iterator[str]:
    """Tests are exempt: their file's name says which behaviour they are about."""
    for path in python_files(*FOLDERS):
        if not path.stem.startswith("test_") and not ast.get_docstring(parsed(path)):
            yield f"{shown(path)}:1: no docstring that says what the module owns"


def misplaced_calls() -> Iterator[str]:
    for path in python_files("choregos"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                yield from _misplaced_call(path, node)


def environment_reads() -> Iterator[str]:
    for path in python_files("choregos"):
        if shown(path) in ENVIRONMENT_READERS:
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
                yield f"{shown(path)}:{node.lineno}: {ast.unparse(node)}; take settings as an argument"


def _misplaced_call(path: Path, call: ast.Call) -> Iterator[str]:
    called = ast.unparse(call.func)
    for pattern, instead, owners in OWNED_CALLS:
        # A task group's own `group.create_task` is structured; the loop's and asyncio's are not.
        structured = called.endswith(".create_task") and "loop" not in called and not called.startswith("asyncio.")
        if re.fullmatch(pattern, called) and not structured and not shown(path).startswith(owners):
            yield f"{shown(path)}:{call.lineno}: {called}(); {instead} has that"


def sleeping_tests() -> Iterator[str]:
    """A sleep directly in a test or fixture, unless a loop around it waits for a condition."""
    for path in python_files(*FOLDERS):
        if "tests" not in path.relative_to(ROOT).parts:
            continue
        for name, node in functions(parsed(path)):
            decorated = any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
            if name.startswith("test_") or decorated:
                yield from _sleeps(path, node)


def _sleeps(path: Path, node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.While | ast.For | ast.AsyncFor | ast.ClassDef | Function | ast.Lambda):
            continue
        source = ast.unparse(child) if isinstance(child, ast.Call) else ""
        if source.startswith(("time.sleep(", "asyncio.sleep(", "anyio.sleep(")) and not source.endswith("sleep(0)"):
            yield f"{shown(path)}:{child.lineno}: {source}; wait for a condition"
        yield from _sleeps(path, child)


def dangling_references() -> Iterator[str]:
    """A link of a document, or a document named in the code, that leads nowhere."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for link in re.findall(r"\]\((?!\w+:|#)([^)#]+)", line):
                if not (path.parent / link).exists():
                    yield f"{shown(path)}:{number}: {link} does not exist"
    for path in python_files("choregos"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for document in re.findall(r"\bdocs/[\w./-]+\.md\b", line):
                if not (ROOT / document).exists():
                    yield f"{shown(path)}:{number}: {document} does not exist"


def stale_exceptions() -> Iterator[str]:
    """An entry of a table above that names nothing any more."""
    existing = {shown(path) for path in python_files(*FOLDERS)}
    existing |= {f"{shown(path)}:{name}" for path in python_files(*FOLDERS) for name, _ in functions(parsed(path))}
    for entry in (*LONG_FILES, *LONG_FUNCTIONS, *MANY_PARAMETERS):
        if entry not in existing:
            yield f"tests/test_tidy.py:1: {entry} is excepted and does not exist"


RULES: tuple[Callable[[], Iterator[str]], ...] = (
    file_lengths,
    function_lengths,
    parameter_counts,
    package_sizes,
    vague_names,
    missing_docstrings,
    misplaced_calls,
    environment_reads,
    sleeping_tests,
    dangling_references,
    stale_exceptions,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tree_keeps_the_style(rule: Callable[[], Iterator[str]]) -> None:
    offences = list(rule())
    if offences:
        pytest.fail("\n".join(offences), pytrace=False)
