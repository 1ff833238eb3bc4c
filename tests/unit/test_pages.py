"""Pages of docs/ against the code that they describe: every path, key, room and message."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints, is_typeddict

import pytest
import yaml

from kit.cluster import decisions
from kit.config import amendments
from kit.config.cluster import Cluster
from kit.errors import DONE, FAILED, INTERRUPTED, USER_MISTAKE
from kit.plan.buckets import BUCKETS
from kit.relay import stage_status
from kit.store import records
from kit.tracking import rows
from kit.training import checkpoint
from kit.training.interruption import Reason
from kit.watch.detectors import DETECTORS

from .test_design import LEVELS, MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


def test_the_cluster_file_of_the_page_on_slurm_is_valid() -> None:
    written, *containers = map(yaml.safe_load, blocks("slurm.md", "yaml"))
    cluster = Cluster.model_validate(written)
    assert cluster.training.ranks == 8
    unset = {*Cluster.model_fields} - cluster.model_fields_set
    assert unset == {"python", "container", "preempt_at_step"}  # the last is the supervisor's
    assert len(containers) == 2
    for container in containers:
        assert Cluster.model_validate(written | container).container is not None


def test_the_page_on_the_workspace_names_every_path() -> None:
    tree = "".join(blocks("workspace.md", "text"))
    names = list(path_names())
    assert len(names) > 40
    for name in names:
        assert name in tree, name


def path_names() -> Iterator[str]:
    """What the modules of paths join to a folder: names of files and folders, or parts of them."""
    for path in sorted((ROOT / "kit/store").glob("*paths.py")):
        yield from joined_in(ast.parse(path.read_text(encoding="utf-8")))


def joined_in(module: ast.Module) -> Iterator[str]:
    """The same, of one of them."""
    for node in ast.walk(module):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from texts_of(node.right)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "with_name":
            yield from texts_of(node.args[0])


def texts_of(node: ast.expr) -> Iterator[str]:
    """The constant parts of a text."""
    for part in node.values if isinstance(node, ast.JoinedStr) else [node]:
        if isinstance(part, ast.Constant):
            yield str(part.value)


def test_the_page_on_the_workspace_names_every_key_of_the_ledger() -> None:
    table = page("workspace.md").partition("### The ledger\n")[2].partition("\n###")[0]
    head = table.partition("| kind |")[0]
    lines = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    records = [one for one in vars(rows).values() if is_row(one)]
    assert len(records) == len(lines) == 11
    for record in records:
        (kind,) = get_args(get_type_hints(record)["kind"])
        for key in get_type_hints(record):
            assert f"`{key}`" in lines[kind] + head, f"{kind}: {key}"


def is_row(one: object) -> bool:
    return is_typeddict(one) and "kind" in get_type_hints(one)


@pytest.mark.parametrize(
    "record",
    [
        records.Start, records.End, records.Piece, records.Manifest, records.Output,
        records.Preflight, records.PreflightCheck,
        decisions.RequeueRecord, amendments.Amendment, checkpoint.Record,
    ],
)  # fmt: skip
def test_the_page_on_the_workspace_names_every_key_of_a_record(record: Any) -> None:
    text = page("workspace.md")
    for key in record.__required_keys__ | record.__optional_keys__:
        assert f"`{key}`" in text, key


def test_the_drawing_of_the_rooms_has_their_levels() -> None:
    (drawing,) = [one for one in blocks("design.md", "mermaid") if "subgraph" in one]
    drawn = [
        set(re.findall(r'^    (\w+)\["(?=\1<br/>)', level, re.MULTILINE))
        for level in re.findall(r"^  subgraph .*?^  end", drawing, re.MULTILINE | re.DOTALL)
    ]
    assert drawn == list(reversed(LEVELS))


def test_the_page_on_the_design_names_files_that_are_there() -> None:
    named = re.findall(r"`((?:kit|tests)/[\w/]+\.py)`", page("design.md"))
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_message_of_the_page_on_trouble_is_one_of_the_code() -> None:
    said = [*messages()]
    found = quoted("troubleshooting.md")
    assert len(found) > 80
    assert [one for one in found if not any(is_part(one, text) for text in said)] == []


def test_the_page_on_trouble_has_the_same_messages_in_japanese() -> None:
    assert quoted("troubleshooting.ja.md") == quoted("troubleshooting.md")


def quoted(name: str) -> list[str]:
    """The messages in the first column of a page's tables."""
    return [line.split("`")[1] for line in page(name).splitlines() if line[:3] == "| `"]


def messages() -> Iterator[str]:
    """Every text in the code but docstrings; where it has a value, a NUL."""
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "\0".join(texts_of(node))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in alone
            ):
                yield node.value


def is_part(quoted: str, text: str) -> bool:
    """Whether a text holds what is quoted of it; each `...` stands for something else."""
    at = 0
    for part in quoted.split("..."):
        found = text.find(part.strip(), at)
        if found < 0:
            return False
        at = found + len(part.strip())
    return True


def test_the_page_on_operating_has_every_outcome_and_every_reason() -> None:
    text = page("operating.md")
    words = [*get_args(records.Outcome), *(reason.text for reason in Reason if reason.text)]
    words += [
        decisions.CRASH,
        decisions.HANG,
        decisions.FAILURE,
        decisions.STOPPED,
        decisions.CANCELLED,
    ]
    assert [word for word in words if f"`{word}" not in text] == []
    for code in (DONE, FAILED, USER_MISTAKE, INTERRUPTED):
        assert f"| {code} |" in text


def test_the_page_on_watching_has_every_bucket_and_every_alert() -> None:
    for heading, names in (
        ("| bucket |", [*BUCKETS]),
        ("| alert |", [detector.__name__ for detector in DETECTORS]),
    ):
        table = page("watching.md").partition(heading)[2].partition("\n\n")[0]
        assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == names


def test_the_page_on_watching_has_every_state_of_a_stage() -> None:
    table = page("watching.md").partition("| state |")[2].partition("\n\n")[0]
    states = {word for kind in get_args(stage_status.State) for word in get_args(kind)}
    assert len(states) > 10
    assert {word for word in states if f"`{word}`" not in table} == set()
