"""`choregos get`: objects as tables with the server's columns, or whole; once, or as they change."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from cyclopts import Parameter

from choregos.cli.output import Format, TablePrinter, print_objects, show, talk
from choregos.cli.session import Session
from choregos.cli.words import UsageError, parse_targets
from choregos.client import Client, Listing, Object
from choregos.client.discovery import ResourceType
from choregos.foundation.errors import NotFound


async def get(
    *words: str,
    output: Annotated[Format, Parameter(name=("--output", "-o"))] = "table",
    watch: Annotated[bool, Parameter(name=("--watch", "-w"))] = False,
    selector: Annotated[str, Parameter(name=("--selector", "-l"))] = "",
    field_selector: str = "",
    all_namespaces: Annotated[bool, Parameter(name=("--all-namespaces", "-A"))] = False,
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Show objects.

    Examples: `choregos get agents`, `choregos get agents,agentsets -o wide`, `choregos get agent web-0 -o yaml`,
    `choregos get all -A`, `choregos get agents -l tier=gold -w`.

    Parameters
    ----------
    words
        KIND, KIND NAME …, or KIND/NAME …; several kinds with commas between them.
    output
        How to show them; `wide` has more columns, `name` is for scripts.
    watch
        Go on showing what changes, until Ctrl-C.
    selector
        Only those with these labels: `tier=gold,region in (us,eu)`.
    field_selector
        Only those with these fields: `metadata.name=web-0`.
    all_namespaces
        Of every namespace.
    """
    namespace = "" if all_namespaces else session.namespace
    async with session.connect() as client:
        catalogue = await client.catalogue()
        targets = [(resource, name) for kinds, name in parse_targets(words) for resource in catalogue.by_words(kinds)]
        if watch and len(targets) != 1:
            raise UsageError("only one kind, or one object, can be watched at a time")
        selection = {"namespace": namespace, "selector": selector}
        shower = _Shower(client, output, selection, qualified=len({r for r, _ in targets}) > 1)
        shower.with_namespace = all_namespaces
        await shower.show(targets, field_selector)
        if watch:
            await shower.follow()


class _Shower:
    """One `get` while it runs.

    Attributes:
        with_namespace: whether tables have a column for it.
    """

    def __init__(self, client: Client, output: Format, selection: dict[str, Any], *, qualified: bool) -> None:
        self._client = client
        self._output = output
        self._selection = selection
        self._qualified = qualified
        self._tables = output in ("table", "wide")
        self._printer: TablePrinter | None = None
        self._columns: list[int] = []
        self._last: tuple[ResourceType, str, Listing]
        self.with_namespace = False

    async def show(self, targets: list[tuple[ResourceType, str]], field_selector: str) -> None:
        objects: list[Object] = []
        shown = 0
        for resource, name in targets:
            fields = ",".join(filter(None, (field_selector, f"metadata.name={name}" if name else "")))
            listing = await self._client.listing(
                _spelling(resource), field_selector=fields, tables=self._tables, **self._selection
            )
            if name and not listing.items:
                raise NotFound(f'{resource.plural} "{name}" not found')
            self._last = (resource, fields, listing)
            objects += listing.items
            if self._tables and listing.items:
                if shown and not (name and self._printer):
                    show("")
                self._print_table(resource, listing, more=bool(name and shown))
                shown += 1
        if not objects:
            self._say_empty(targets)
        if not self._tables:
            self._print_whole(targets, objects)

    def _say_empty(self, targets: list[tuple[ResourceType, str]]) -> None:
        namespace = self._selection["namespace"]
        namespaced = any(resource.namespaced for resource, _ in targets) and namespace != ""
        where = f" in namespace {self._client.namespace if namespace is None else namespace}" if namespaced else ""
        talk(f"No {', '.join(resource.plural for resource, _ in targets)} found{where}.")

    def _print_whole(self, targets: list[tuple[ResourceType, str]], objects: list[Object]) -> None:
        if self._output == "name":
            for item in objects:
                show(_name_of(item, self._type_of(targets, item)))
        else:
            print_objects(objects, self._output, single=len(targets) == 1 and bool(targets[0][1]))

    def _type_of(self, targets: list[tuple[ResourceType, str]], item: Object) -> ResourceType:
        return next(resource for resource, _ in targets if resource.kind == item["kind"])

    def _print_table(self, resource: ResourceType, listing: Listing, *, more: bool) -> None:
        if self._printer is None or not more:
            columns = listing.document["columnDefinitions"]
            wide = self._output == "wide"
            self._columns = [i for i, column in enumerate(columns) if wide or not column.get("priority")]
            headings = [columns[i]["name"] for i in self._columns]
            self._printer = TablePrinter(["Namespace", *headings] if self.with_namespace else headings)
        self._printer.rows([self._row(resource, item) for item in listing.items])

    def _row(self, resource: ResourceType, table: Object) -> list[Any]:
        row = table["rows"][0]
        cells = [row["cells"][i] for i in self._columns]
        if self._qualified:
            cells[0] = f"{resource.qualified}/{cells[0]}"
        return [row["object"]["metadata"].get("namespace", ""), *cells] if self.with_namespace else cells

    async def follow(self) -> None:
        """Shows each change, for ever."""
        resource, fields, listing = self._last
        changes = self._client.watch(
            _spelling(resource), field_selector=fields, after=listing, tables=self._tables, **self._selection
        )
        async with contextlib.aclosing(changes):
            async for event in changes:
                if not self._tables:
                    self._print_whole([(resource, "one")], [event.object])
                    if self._output == "yaml":
                        show("---")
                    continue
                if self._printer is None:
                    # The first table of a watch brings the columns that an empty list did not show.
                    self._print_table(resource, Listing(event.object, [event.object], ""), more=False)
                else:
                    self._printer.rows([self._row(resource, event.object)])


def _spelling(resource: ResourceType) -> str:
    """A word that means just this type."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _name_of(item: Object, resource: ResourceType) -> str:
    return f"{resource.qualified}/{item['metadata']['name']}"
