"""Tables and verdicts, as Markdown: what is printed goes into `docs/benchmarks.md` as it is.

A claim is one of ours against one of theirs, with the ratio that was asked for. Where we are behind it says so.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

Row = Sequence[str]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def number(value: float) -> str:
    """Three digits that mean something, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Claim:
    """Ours against theirs.

    Attributes:
        asked: how many times better ours shall be at least; below 1 it may be that much worse; None: not asked for.
        more_is_better: rates; otherwise durations and sizes.
    """

    what: str
    ours: float
    theirs: float
    unit: str
    asked: float | None
    more_is_better: bool = False

    @property
    def times_better(self) -> float:
        return self.ours / self.theirs if self.more_is_better else self.theirs / self.ours

    @property
    def verdict(self) -> str:
        met = "" if self.asked is None else "met" if self.times_better >= self.asked else "**missed**"
        standing = "behind" if self.times_better < 1 else "" if met else "ahead"
        return ", ".join(filter(None, (met, standing)))

    def row(self) -> Row:
        return (
            self.what,
            f"{number(self.ours)} {self.unit}",
            f"{number(self.theirs)} {self.unit}",
            f"{number(self.times_better)} x",
            "" if self.asked is None else f"{number(self.asked)} x",
            self.verdict,
        )


CLAIM_HEADER = ("claim", "ours", "the other's", "times better", "asked", "verdict")


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    title: str
    tables: list[tuple[str, Row, Sequence[Row]]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def table(self, caption: str, header: Row, rows: Sequence[Row]) -> None:
        self.tables.append((caption, header, rows))

    def __str__(self) -> str:
        parts = [f"## {self.title}"]
        for caption, header, rows in self.tables:
            parts += [caption, markdown_table(header, rows)]
        if self.claims:
            parts += [
                "Against what was asked for:",
                markdown_table(CLAIM_HEADER, [claim.row() for claim in self.claims]),
            ]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts) + "\n"


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """Aligned, so that it reads on a terminal too: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Row) -> str:
        cells = [
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = "|".join("-" * (width + 2) if n == 0 else "-" * (width + 1) + ":" for n, width in enumerate(widths))
    return "\n".join([line(header), f"|{rule}|", *(line(row) for row in rows)])


def machine() -> str:
    """One line about where this runs, and how busy it is with other things."""
    processor, memory_kb = platform.processor() or platform.machine(), 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory_kb = int(line.split()[1])
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores ({processor}), {memory_kb / 2**20:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}; load of the last 1, 5, 15 minutes: {load}"
    )
