"""Manifests are read as kubectl reads them, and every fault names its file and line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from choregos.client.manifests import Manifest, load_manifests, parse_manifests
from choregos.foundation.errors import Invalid, NotFound

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
SCALARS = [
    "no", "Yes", "y", "N", "on", "OFF", "true", "False", "nope", "~", "null", "",
    "012", "0o12", "0", "-7", "+1", "1_000", "0x1F", "0b11", "08", "1e3", "1.0", "1.5", ".5", "12:30:45",
    "2026-11-22", "2026-11-22T10:00:00Z", "=", "'no'", '"012"', "500m", "4Gi", "70%", "1.2.3", "0x", "1__0",
    "123456789012345678901234567890", "-9223372036854775808", "9" * 5000,
    "1e999", "-1e999", "1e30", "0xfffffffffffffffffffff", "0x_", "0b_", "0o_", "0_", "0o_7", "! x",
    "!!binary aGk=", "!!timestamp 2020-01-01", "!!str 5",
]  # fmt: skip

BOMB = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


def parse(text: str) -> list[Manifest]:
    return list(parse_manifests(text.encode(), "f.yaml"))


@pytest.mark.real
def test_every_scalar_means_what_it_means_to_kubectl(tmp_path: Path) -> None:
    text = HEAD + "data:\n" + "".join(f"  k{i}: {scalar}\n" for i, scalar in enumerate(SCALARS)) + "  8080: a\n  n: b\n"
    path = tmp_path / "f.yaml"
    path.write_text(text)
    kubectl = Path(sys.executable).with_name("kubectl")
    theirs = subprocess.run(
        [kubectl, "annotate", "--local", "-f", path, "-o", "json", "a=b"], capture_output=True, check=True, timeout=60
    )
    [manifest] = parse(text)
    expected = json.loads(theirs.stdout)["data"]
    assert json.loads(json.dumps(manifest.content["data"])) == expected


def test_documents_lists_and_empty_parts() -> None:
    listed = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: A, metadata: {name: a}}\n"
        "- apiVersion: v1\n  kind: B\n  metadata: {name: b}\n"
    )
    text = f"---\n{HEAD}---\n# nothing\n---\n{listed}"
    assert [(m.content["metadata"]["name"], m.line) for m in parse(text)] == [("x", 2), ("a", 11), ("b", 12)]


def test_a_list_of_one_kind_says_what_its_items_are() -> None:
    items = "- metadata: {name: a}\n- {kind: Other, metadata: {name: b}}\n"
    text = f"apiVersion: example.org/v1\nkind: ThingList\nitems:\n{items}"
    said = [(m.content["apiVersion"], m.content["kind"], m.content["metadata"]["name"], m.line) for m in parse(text)]
    assert said == [("example.org/v1", "Thing", "a", 4), ("example.org/v1", "Other", "b", 5)]
    with pytest.raises(Invalid, match=r"f\.yaml:2: .* not int"):
        list(parse("kind: ThingList\nitems: [1]"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", r"f\.yaml:2: "),
        ("a: 1\na: 2", r"f\.yaml:2: the key 'a' is given twice"),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: x\n  labels:\n    a: b\n    a: c", r"f\.yaml:7: .*twice"),
        ("- 1", r"f\.yaml:1: an object .* expected, not list"),
        ("kind: A\nmetadata: {name: x}", r"f\.yaml:1: apiVersion is missing"),
        ("---\n\napiVersion: v1\nmetadata: {name: x}", r"f\.yaml:3: kind is missing"),
        ("apiVersion: v1\nkind: A\nmetadata: {}", r"f\.yaml:1: metadata.name is missing"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: 12}", r"metadata.name is missing"),
        ("a: !!python/object:os.system x", r"f\.yaml:1: could not determine a constructor"),
        ("a: *nowhere", r"f\.yaml:1: "),
        ("a: !!int x", r"f\.yaml:1: 'x' is no !!int"),
        ("a: 1\nb: !!bool x", r"f\.yaml:2: 'x' is no !!bool"),
        (f"a: !!float {'x' * 99}", r"f\.yaml:1: 'x{40}…' is no !!float"),
        ("a: !!set {b}", r"f\.yaml:1: could not determine a constructor"),
        ("a: 1\nb: \x00", r"f\.yaml:2: this is no text: control characters are not allowed, found 0x0"),
        ("a: &a [1, *a]", r"f\.yaml:1: the alias \*a stands within"),
        (f"a: 1\nb: {'[' * 200_000}", r"f\.yaml:2: .*nested deeper than"),
        (BOMB, r"f\.yaml:7: the aliases up to here stand for more than"),
    ],
)
def test_faults_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse(text)


def test_the_line_of_a_field() -> None:
    [manifest] = parse(HEAD + "spec:\n  agents:\n  - name: a\n  - name: b\n    resources:\n      cpu: x\n")
    assert manifest.line_of("spec.agents[1].resources.cpu") == 9
    assert manifest.line_of("spec.agents[1].resources.memory") == 8
    assert manifest.line_of("spec.agents[7]") == 5
    assert manifest.line_of("nothing") == 1


def test_paths_are_sent_as_they_are_written() -> None:
    text = "apiVersion: v1\nkind: AgentCluster\nmetadata: {name: c}\nspec: {agents: [{name: a, runtime: {path: ../x}}]}"
    [manifest] = parse(text)
    assert manifest.content["metadata"] == {"name": "c"}
    assert manifest.content["spec"]["agents"][0]["runtime"] == {"path": "../x"}


def test_folders_are_read_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "d.txt"):
        (tmp_path / name).write_text(json.dumps({"apiVersion": "v1", "kind": "A", "metadata": {"name": name}}))
    assert [m.content["metadata"]["name"] for m in load_manifests([str(tmp_path)])] == ["a.yml", "b.yaml", "c.json"]


def test_sources_without_objects_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        load_manifests([str(tmp_path / "gone.yaml")])
    with pytest.raises(Invalid, match="holds no"):
        load_manifests([str(tmp_path)])
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(Invalid, match="no objects"):
        load_manifests([str(tmp_path)])


def test_what_is_no_text_is_told_with_its_line() -> None:
    with pytest.raises(Invalid, match=r"f:2: this is no text: invalid leading UTF-8 octet, found 0xff"):
        list(parse_manifests(b"a: 1\nb: \xff", "f"))


def test_a_source_that_is_too_long_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.write(HEAD.encode())
        stream.truncate(100 * 2**20)
    with pytest.raises(Invalid, match=r"large\.yaml:4: .* more than 16 MiB are not read; divide them"):
        load_manifests([str(path)])
    with path.open("rb") as stream:
        monkeypatch.setattr("sys.stdin", type("Text", (), {"buffer": stream}))
        with pytest.raises(Invalid, match="standard input:4: "):
            load_manifests(["-"])
