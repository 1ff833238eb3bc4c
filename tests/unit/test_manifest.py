"""Manifests: what of a folder is done, missing, stale or broken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kit.config.defaults import NonDefaults
from kit.config.section import Section
from kit.errors import StageError
from kit.store import manifest
from kit.store.files import read_json
from kit.store.paths import MANIFEST
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from pathlib import Path

CAUSES = manifest.causes("weave", 1, {"threads": 3}, {"wool": "abc"})


class Loom(Section):
    """A section with a key that decides nothing."""

    threads: int
    tasks: int


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is done."""
    made = tmp_path / "unit"
    manifest.clear(made)
    (made / "cloth").write_bytes(b"0123456789")
    (made / "thread").write_bytes(b"abc")
    manifest.commit(made, CAUSES, counts={"yards": 2})
    return made


def test_a_committed_folder_is_done(folder: Path) -> None:
    assert manifest.state(folder, CAUSES) == "done"
    assert manifest.state(folder, CAUSES, verify=True) == "done"
    assert manifest.read(folder, "weave")["counts"] == {"yards": 2}


def test_a_folder_without_a_manifest_is_missing(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).unlink()
    assert manifest.state(folder, CAUSES) == "missing"
    assert manifest.state(tmp_path / "nowhere", CAUSES) == "missing"


@pytest.mark.parametrize(
    "causes",
    [
        manifest.causes("knit", 1, {"threads": 3}, {"wool": "abc"}),
        manifest.causes("weave", 2, {"threads": 3}, {"wool": "abc"}),
        manifest.causes("weave", 1, {"threads": 4}, {"wool": "abc"}),
        manifest.causes("weave", 1, {"threads": 3}, {"wool": "abd"}),
        manifest.causes("weave", 1, {"threads": 3}, {"wool": "abc", "silk": "x"}),
    ],
)
def test_another_cause_makes_a_folder_stale(folder: Path, causes: dict[str, object]) -> None:
    assert manifest.state(folder, causes) == "stale"


@pytest.mark.parametrize(
    ("causes", "why"),
    [
        (("weave", 2, {"threads": 3}, {"wool": "abc"}), "version 1 -> 2 of the stage"),
        (("weave", 1, {"threads": 4}, {"wool": "abc"}), "threads: 3 -> 4"),
        (("weave", 1, {"threads": 3, "loom": {"wide": True}}, {"wool": "abc"}),
         'loom: not set -> {"wide": true}'),
        (("weave", 1, {"threads": 3}, {"wool": {"size": 900}}),
         'input changed: wool "abc" -> {"size": 900}'),
        (("weave", 1, dict.fromkeys("abcdef", 1), {"wool": "abc"}),
         "threads: 3 -> not set; a: not set -> 1; b: not set -> 1; c: not set -> 1; and 3 more"),
    ],
)  # fmt: skip
def test_a_stale_folder_says_which_cause_changed(
    folder: Path, causes: tuple[str, int, dict[str, object], dict[str, object]], why: str
) -> None:
    assert manifest.difference(folder, manifest.causes(*causes)) == why


def test_of_hashes_it_is_said_that_they_changed_and_not_from_what_to_what(folder: Path) -> None:
    made = manifest.causes("weave", 1, {}, {"wool": {"size": 812, "xxh3": "0" * 16}})
    manifest.commit(folder, made)
    other = manifest.causes("weave", 1, {}, {"wool": {"size": 900, "xxh3": "1" * 16}})
    assert manifest.difference(folder, other) == "input changed: wool.size 812 -> 900"
    other = manifest.causes("weave", 1, {}, {"wool": {"size": 812, "xxh3": "1" * 16}})
    assert manifest.difference(folder, other) == "input changed: wool.xxh3"
    assert manifest.difference(folder, made) is None


def test_a_broken_folder_says_which_file_is_how(folder: Path) -> None:
    (folder / "cloth").write_bytes(b"0123456780")
    assert manifest.difference(folder, CAUSES) is None
    told = manifest.difference(folder, CAUSES, verify=True)
    assert told == "cloth: bytes differ from its manifest"
    (folder / "cloth").write_bytes(b"012345678")
    assert manifest.difference(folder, CAUSES) == "cloth: 9 bytes, but 10 in its manifest"
    (folder / "cloth").unlink()
    assert manifest.difference(folder, CAUSES) == "cloth is missing"
    (folder / MANIFEST).write_text("{", encoding="utf-8")
    assert manifest.difference(folder, CAUSES) == f"{MANIFEST} cannot be read"
    (folder / MANIFEST).unlink()
    assert manifest.difference(folder, CAUSES) is None


def test_a_key_that_decides_nothing_is_no_cause() -> None:
    one, other = (NonDefaults(Loom(threads=3, tasks=n), frozenset({"tasks"})) for n in (1, 9))
    assert manifest.causes("weave", 1, one, {}) == manifest.causes("weave", 1, other, {})


def test_an_output_that_is_gone_or_of_another_size_is_broken(folder: Path) -> None:
    (folder / "cloth").write_bytes(b"012345678")
    assert manifest.state(folder, CAUSES) == "broken"
    (folder / "cloth").unlink()
    assert manifest.state(folder, CAUSES) == "broken"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", '{"causes": {}}', '{"outputs": {}}'),
        json.dumps({"causes": CAUSES, "outputs": {"cloth": {}}}),
        json.dumps({"causes": CAUSES, "outputs": [1]}),
    ],
)
def test_a_damaged_manifest_is_broken(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    assert manifest.state(folder, CAUSES) == "broken"


def test_a_flipped_byte_is_found_by_verify_only(folder: Path) -> None:
    (folder / "cloth").write_bytes(b"0123456780")
    assert manifest.state(folder, CAUSES) == "done"
    assert manifest.state(folder, CAUSES, verify=True) == "broken"


def test_leftovers_of_a_dead_task_are_cleared(folder: Path) -> None:
    (folder / ".partial-0123-cloth").write_bytes(b"half")
    manifest.clear(folder)
    assert list(folder.iterdir()) == []
    assert manifest.state(folder, CAUSES) == "missing"


def test_a_leftover_is_no_output(folder: Path) -> None:
    (folder / ".partial-0123-cloth").write_bytes(b"half")
    manifest.commit(folder, CAUSES)
    assert sorted(read_json(folder / MANIFEST)["outputs"]) == ["cloth", "thread"]


def test_a_file_of_an_earlier_recipe_is_no_output_of_the_next(folder: Path) -> None:
    def make(place: Path) -> dict[str, object]:
        (place / "cloth").write_bytes(b"new")
        return {}

    causes = manifest.causes("weave", 1, {"threads": 1}, {})
    make_units("weave", [Unit("unit", folder, causes, make)])
    assert sorted(read_json(folder / MANIFEST)["outputs"]) == ["cloth"]


def test_a_folder_that_is_made_again_is_missing_until_it_is_committed(folder: Path) -> None:
    states = []

    def make(place: Path) -> dict[str, object]:
        states.append(manifest.state(place, CAUSES))
        return {}

    make_units("weave", [Unit("unit", folder, {"other": 1}, make)])
    assert states == ["missing"]


def test_reading_what_is_not_made_names_the_job_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"run jobs\.weave first"):
        manifest.read(tmp_path, "jobs.weave")
    (tmp_path / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(StageError, match=r"run jobs\.weave again"):
        manifest.read(tmp_path, "jobs.weave")


def test_a_fingerprint_is_of_names_and_bytes_alone(folder: Path, tmp_path: Path) -> None:
    def made(name: str, files: dict[str, bytes]) -> str:
        place = tmp_path / name
        manifest.clear(place)
        for file, content in files.items():
            (place / file).write_bytes(content)
        manifest.commit(place, {"anything": name})
        return manifest.fingerprint(place, "jobs.weave")

    same = {"thread": b"abc", "cloth": b"0123456789"}
    assert made("same", same) == manifest.fingerprint(folder, "jobs.weave")
    assert made("byte", same | {"cloth": b"0123456780"}) != made("same", same)
    assert made("name", {"thread": b"abc", "clot": b"0123456789"}) != made("same", same)
