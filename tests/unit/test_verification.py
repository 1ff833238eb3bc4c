"""`export verify`: an exported folder against its manifest, wherever it lies."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs.export import app
from kit.errors import StageError
from kit.release import verification
from kit.store import manifest
from kit.store.files import read_json, write_json
from kit.store.paths import MANIFEST
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from pathlib import Path

CAUSES = manifest.causes("export", 1, {}, {})
FILES = {
    "model.safetensors": b"weights",
    "runs/events.1": b"curve",
    ".eval_results/demo.yaml": b"- a",
}

PAGE = "README_ja.md"


def make(folder: Path) -> dict[str, int]:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return {}


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    unit = Unit("export", tmp_path / "export", CAUSES, make, published=True)
    make_units("export", [unit])
    return unit


@pytest.fixture
def copy(unit: Unit, tmp_path: Path) -> Path:
    """The folder on another machine, as a download by the Hub's client leaves it."""
    place = tmp_path / "elsewhere"
    shutil.copytree(unit.folder, place)
    for name in (".gitattributes", ".cache/huggingface/model.lock"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


def faults(folder: Path) -> list[str]:
    return [*verification.check(folder).lines()][:-1]


def test_every_file_is_in_the_manifest_with_its_sha256(unit: Unit) -> None:
    outputs = read_json(unit.folder / MANIFEST)["outputs"]
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert {name: record["sha256"] for name, record in outputs.items()} == sums


def test_an_intact_folder_is_told_with_what_was_checked(copy: Path) -> None:
    assert [*verification.check(copy).lines()] == [
        f"{copy}: intact; checked 3 files, 15 B of {MANIFEST}"
    ]


@pytest.mark.parametrize("name", FILES)
def test_any_file_that_is_damaged_missing_or_extra_is_named(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert faults(copy) == [f"damaged: {name}: other bytes than {MANIFEST} says"]
    (copy / name).write_bytes(content[:-1])
    size = len(content)
    assert faults(copy) == [f"damaged: {name}: {size - 1} bytes, but {size} in {MANIFEST}"]
    (copy / name).rename(copy / f"{name}.bak")
    found = verification.check(copy)
    assert found.missing == [name]
    assert found.extra == [f"{name}.bak"]
    assert found.faults == 2
    assert "2 faults" in [*found.lines()][-1]


def test_a_page_that_was_completed_by_hand_is_told_and_no_fault(unit: Unit) -> None:
    (unit.folder / PAGE).write_text("限界")
    manifest.commit(unit.folder, CAUSES, published=True)
    (unit.folder / PAGE).write_text("限界: 検証済み")
    found = verification.check(unit.folder)
    assert found.faults == 0
    assert [line.split(",")[0] for line in found.lines()] == [
        f"edited: {PAGE}: 20 bytes",
        f"{unit.folder}: intact; checked 4 files",
    ]
    (unit.folder / PAGE).unlink()
    assert verification.check(unit.folder).missing == [PAGE]


def test_an_export_of_an_earlier_version_is_compared_by_its_own_hashes(copy: Path) -> None:
    tree = read_json(copy / MANIFEST)
    for record in tree["outputs"].values():
        del record["sha256"]
    write_json(copy / MANIFEST, tree)
    assert faults(copy) == []
    (copy / "runs/events.1").write_bytes(b"CURVE")
    assert len(faults(copy)) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"outputs": {"a": {}}}', '{"outputs": []}'])
def test_a_folder_without_a_readable_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(StageError, match="damaged; get the folder again"):
        verification.check(copy)
    (copy / MANIFEST).unlink()
    with pytest.raises(
        StageError, match=r"has no manifest.json; give a folder that ekiden export made"
    ):
        verification.check(copy)


def test_what_an_earlier_export_left_in_subfolders_is_gone(unit: Unit) -> None:
    for name in ("old/events.0", "runs/events.0"):
        (unit.folder / name).parent.mkdir(exist_ok=True)
        (unit.folder / name).touch()
    (unit.folder / "link").symlink_to(unit.folder / "runs")
    manifest.invalidate(unit.folder)
    make_units("export", [unit])
    assert faults(unit.folder) == []
    assert {path.name for path in unit.folder.iterdir()} == {
        "model.safetensors", "runs", ".eval_results", MANIFEST,
    }  # fmt: skip


def test_damage_in_a_subfolder_breaks_the_unit(unit: Unit) -> None:
    assert unit.state(verify=True) == "done"
    (unit.folder / "runs/events.1").write_bytes(b"CURVE")
    assert unit.state(verify=True) == "broken"
    assert unit.why(verify=True) == "runs/events.1: bytes differ from its manifest"
    (unit.folder / "runs/events.1").unlink()
    assert unit.state() == "broken"


def test_the_command_exits_with_one_for_a_fault(copy: Path) -> None:
    def call(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["verify", str(copy), *options])
        return done.exit_code, done.stdout

    assert call() == (0, f"{copy}: intact; checked 3 files, 15 B of {MANIFEST}\n")
    (copy / "model.safetensors").unlink()
    code, said = call()
    assert (code, said.splitlines()[0]) == (1, "missing: model.safetensors")
    code, said = call("--json")
    found = json.loads(said)
    assert (code, found["intact"], found["missing"]) == (1, False, ["model.safetensors"])
    assert found["files"] == 3
