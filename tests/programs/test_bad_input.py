"""Bad input through the commands: one line that says what and where, or passed over and counted."""

from __future__ import annotations

import bz2
import lzma
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kit.corpus.plaintext import DOCUMENT_LINES
from kit.store.files import read_json
from kit.store.paths import MANIFEST
from tests.conftest import ROOT
from tests.disk import fill, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Workdir

GOOD = "よい文書である。\n\n"
ONE_UNIT = "corpus.unit_mb=100"


def run(workdir: Workdir, *overrides: str) -> tuple[int, str]:
    """Exit code and last line of download and preprocessing; never a traceback."""
    for job in ("download", "preprocess"):
        done = workdir.run(f"jobs.{job}", "run", str(workdir.recipe_file), *overrides)
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode:
            break
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


def faults(workdir: Workdir) -> dict[str, int]:
    """What was passed over, in all shards."""
    counted: dict[str, int] = {}
    for path in workdir.workspace.root.glob(f"shards/*/{MANIFEST}"):
        for kind, count in read_json(path)["faults"].items():
            counted[kind] = counted.get(kind, 0) + count
    return counted


def only(workdir: Workdir, path: Path, kind: str = "plaintext") -> tuple[str, str]:
    return f"corpus.sources={{web: {{kind: {kind}, location: {path}}}}}", ONE_UNIT


LINES: dict[str, tuple[bytes, str | None]] = {
    "not UTF-8": (b"abc\x80\n", "not_utf8"),
    "NUL": ("駅\0伝。\n".encode(), "nul"),
    "10 MB": ("長".encode() * 3_500_000 + b"\n", "line_too_long"),
    "a million marks": (("か" + "\u3099" * 1_000_000 + "\n").encode(), None),
}


@pytest.mark.parametrize("name", LINES)
def test_a_bad_line_ends_the_task_or_is_passed_over_and_counted(
    workdir: Workdir, name: str
) -> None:
    line, kind = LINES[name]
    workdir.web.write_bytes(GOOD.encode() * 3 + line + GOOD.encode() * 3)
    code, said = run(workdir, *only(workdir, workdir.web), "name=stop")
    if kind is None:  # harmless: 3 MB of marks are a line like another
        assert (code, faults(workdir)) == (0, {})
        return
    assert code == 2
    assert f"{workdir.web}, line 7" in said
    code, said = run(workdir, *only(workdir, workdir.web), "corpus.on_bad_input=skip", "name=skip")
    assert code == 0, said
    assert faults(workdir) == {kind: 1}


def test_a_corpus_that_ends_up_empty_is_told_by_the_stage_that_made_it(workdir: Workdir) -> None:
    workdir.web.write_text("only English.\n\nand more of it.\n")
    japanese = "corpus.filters.japanese.min_share=0.5"
    code, said = run(workdir, *only(workdir, workdir.web), japanese)
    assert code == 2
    assert "the corpus is empty: of 2 documents all are left out (japanese 2)" in said
    assert (workdir.workspace.corpus_report / "report.md").is_file()


def test_a_json_line_that_is_none_is_told_or_passed_over(workdir: Workdir) -> None:
    path = workdir.folder / "a.jsonl"
    path.write_text('{"text": "一。"}\n{"text": "\\ud800"}\n{"text": 3}\n[]\n{"text"\n')
    code, said = run(workdir, *only(workdir, path, "jsonl"), "name=stop")
    assert code == 2
    assert f"{path}, line 2" in said
    code, said = run(
        workdir, *only(workdir, path, "jsonl"), "corpus.on_bad_input=skip", "name=skip"
    )
    assert code == 0, said
    assert sum(faults(workdir).values()) == 4


def test_a_damaged_stream_of_a_dump_is_told_or_passed_over(
    workdir: Workdir, streams: list[bytes]
) -> None:
    raw = bytearray(b"".join(streams))
    place = len(streams[0]) + len(streams[1])
    raw[place + len(streams[2]) // 2] ^= 0xFF
    workdir.dump.write_bytes(bytes(raw))
    code, said = run(workdir, *only(workdir, workdir.dump, "wikipedia"), "name=stop")
    assert code == 2
    assert f"byte {place}" in said
    skip = (*only(workdir, workdir.dump, "wikipedia"), "corpus.on_bad_input=skip", "name=skip")
    code, said = run(workdir, *skip)
    assert code == 0, said
    assert faults(workdir) == {"stream_damaged": 1}


def _cut_dump(workdir: Workdir, streams: list[bytes]) -> Path:
    workdir.dump.write_bytes(b"".join(streams)[:-20])
    return workdir.dump


def _wrong_checksum(workdir: Workdir, _: list[bytes]) -> Path:
    path = workdir.folder / "a.txt.xz"
    raw = bytearray(lzma.compress(GOOD.encode() * 1000))
    raw[-40] ^= 0xFF
    path.write_bytes(bytes(raw))
    return path


def _empty_packed(workdir: Workdir, _: list[bytes]) -> Path:
    (workdir.folder / "a.txt.gz").touch()
    return workdir.folder / "a.txt.gz"


@pytest.mark.parametrize("make", [_cut_dump, _wrong_checksum, _empty_packed])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_damaged_file_is_never_taken_for_a_shorter_one(
    workdir: Workdir,
    streams: list[bytes],
    make: Callable[[Workdir, list[bytes]], Path],
    policy: str,
) -> None:
    path = make(workdir, streams)
    kind = "wikipedia" if path == workdir.dump else "plaintext"
    code, said = run(workdir, *only(workdir, path, kind), f"corpus.on_bad_input={policy}")
    assert code == 2
    assert str(path) in said


def test_entities_that_a_dump_declares_are_neither_expanded_nor_read(
    workdir: Workdir, streams: list[bytes]
) -> None:
    secret = workdir.folder / "secret"
    secret.write_text("秘密である。")
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    head = bz2.decompress(streams[0]).decode()
    doctype = f'<!DOCTYPE m [<!ENTITY e0 "爆">{bomb}<!ENTITY x SYSTEM "file://{secret}">]>\n'
    pages = bz2.decompress(streams[1]).decode().replace("海に面した", "&e11;&x;海に面した")
    parts = [doctype + head, pages, "</mediawiki>\n"]
    workdir.dump.write_bytes(b"".join(bz2.compress(part.encode()) for part in parts))
    code, said = run(workdir, *only(workdir, workdir.dump, "wikipedia"))
    assert code == 0, said
    examples = read_json(next(workdir.workspace.root.glob("shards/*/examples.json")))
    assert examples
    assert not any("爆爆" in e["before"] or "秘密" in e["before"] for e in examples)


def test_an_empty_text_is_a_shard_without_documents(workdir: Workdir) -> None:
    workdir.web.write_text("")
    code, said = run(workdir, *only(workdir, workdir.web))
    assert (code, "the corpus is empty: web: no text" in said) == (2, True)
    (made,) = workdir.workspace.root.glob(f"shards/*/{MANIFEST}")
    assert read_json(made)["counts"] == {"train": {}, "held-out": {}}


def test_a_text_without_blank_lines_is_told_or_passed_over(workdir: Workdir) -> None:
    workdir.web.write_bytes(
        GOOD.encode() + "行\n".encode() * (DOCUMENT_LINES + 1) + b"\n" + GOOD.encode()
    )
    code, said = run(workdir, *only(workdir, workdir.web), "name=stop")
    assert code == 2
    assert "put blank lines between documents" in said
    code, said = run(workdir, *only(workdir, workdir.web), "corpus.on_bad_input=skip", "name=skip")
    assert code == 0, said
    assert faults(workdir) == {"document_too_long": 1}


@pytest.mark.parametrize("kind", ["plaintext", "wikipedia"])
def test_a_source_that_vanishes_is_told_whatever_is_passed_over(
    workdir: Workdir, kind: str
) -> None:
    path = workdir.dump if kind == "wikipedia" else workdir.web
    words = (
        "run",
        str(workdir.recipe_file),
        *only(workdir, path, kind),
        "corpus.on_bad_input=skip",
    )
    assert workdir.run("jobs.download", *words).returncode == 0
    path.unlink()
    for job, code in (("preprocess", (1, 2)), ("download", (2,))):
        done = workdir.run(f"jobs.{job}", *words)
        assert done.returncode in code
        assert "Traceback" not in done.stderr
        assert str(path) in done.stderr.splitlines()[-1]
    assert not list(workdir.workspace.root.glob(f"shards/*/{MANIFEST}"))


def test_a_folder_that_may_not_be_read_is_told(workdir: Workdir) -> None:
    folder = workdir.folder / "texts"
    (folder / "closed").mkdir(parents=True)
    (folder / "a.txt").write_text(GOOD)
    (folder / "closed").chmod(0)
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() != 0:
        without = []
    elif subprocess.run([*without, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root reads all, and setpriv cannot take that away here")
    command = [*without, sys.executable, "-m", "jobs.download", "run", str(workdir.recipe_file)]
    done = subprocess.run(
        [*command, *only(workdir, folder)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    (folder / "closed").chmod(0o700)  # or nobody could remove it
    assert done.returncode == 2
    assert f"{folder / 'closed'}: Permission denied" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_disk_ends_the_task_in_one_line_and_leaves_nothing_half_written(
    workdir: Workdir, tmp_path: Path
) -> None:
    chance = random.Random(1)
    letters = "あいうえおかきくけこさしすせそ日本語駅伝"
    documents = ["".join(chance.choices(letters, k=60)) + "。\n\n" for _ in range(20_000)]
    workdir.web.write_text("".join(documents), encoding="utf-8")
    disk = tmp_path / "disk"
    disk.mkdir()
    words = (str(workdir.recipe_file), f"workspace={disk}", *only(workdir, workdir.web))
    with small_disk(disk, "32m"):
        done = workdir.run("jobs.download", "run", *words)
        assert done.returncode == 0, done.stderr
        filler = fill(disk)
        done = workdir.run("jobs.preprocess", "run", *words)
        assert done.returncode == 1, done.stderr
        assert "No space left on device; free some space" in done.stderr
        assert done.stderr.count("\n") == 1
        filler.unlink()
        (disk / "shards").mkdir(exist_ok=True)
        with small_disk(disk / "shards", "400k"):  # room for all but a shard
            done = workdir.run("jobs.preprocess", "run", *words)
            assert done.returncode == 1, done.stderr
            assert "Traceback" not in done.stderr
            assert "No space left on device" in done.stderr.splitlines()[-1]
            assert not list((disk / "shards").glob(f"*/{MANIFEST}"))
            assert not list((disk / "shards").rglob(".partial*"))
        done = workdir.run("jobs.preprocess", "run", *words)
        assert done.returncode == 0, done.stderr
