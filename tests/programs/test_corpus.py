"""The corpus by its command line: what is not done is made, to the same bytes, and told."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from kit.cluster import lock
from kit.store.files import read_json
from tests.speed import patience

if TYPE_CHECKING:
    from tests.conftest import Workdir


def done(workdir: Workdir, module: str, verb: str, *arguments: str) -> str:
    """The output of a command that succeeds."""
    found = workdir.run(module, verb, str(workdir.recipe_file), *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def shards_of(workdir: Workdir) -> dict[str, bytes]:
    """The bytes of every file of every shard."""
    folder = workdir.workspace.root / "shards"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_submit_sends_only_tasks_with_something_to_do(workdir: Workdir) -> None:
    many = ("corpus.unit_mb=0.002", "corpus.tasks=3")
    done(workdir, "jobs.download", "run", *many)
    assert "3 tasks on local" in done(workdir, "jobs.preprocess", "submit", "--dry-run", *many)
    done(workdir, "jobs.preprocess", "run", *many)
    whole = shards_of(workdir)
    names = sorted({name.split("/")[0] for name in whole})
    assert len(names) > 4
    (workdir.workspace.shard(names[4]) / "train.txt.zst").unlink()
    assert "1 broken" in done(workdir, "jobs.preprocess", "status", *many)
    assert "preprocess: 1 task on local" in done(
        workdir, "jobs.preprocess", "submit", "--dry-run", *many
    )
    done(workdir, "jobs.preprocess", "submit", *many)
    run = workdir.workspace.run("small")
    assert [job["tasks"] for job in read_json(run.jobs)["local"]] == [[1]]
    deadline = time.monotonic() + patience(60)
    while (shards_of(workdir) != whole or lock.is_held(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert shards_of(workdir) == whole
    assert "nothing to submit" in done(workdir, "jobs.preprocess", "submit", *many)


def test_a_damaged_shard_is_found_by_verify_and_made_again(workdir: Workdir) -> None:
    workdir.make(workdir.recipe(), "preprocess")
    whole = shards_of(workdir)
    victim = next(workdir.workspace.root.glob("shards/*/train.txt.zst"))
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(bytes(raw))
    assert "broken" not in done(workdir, "jobs.preprocess", "status")
    assert "1 broken" in done(workdir, "jobs.preprocess", "status", "--verify")
    assert f"{victim.parent.name} is damaged" in done(workdir, "jobs.preprocess", "run", "--verify")
    assert shards_of(workdir) == whole


def test_verify_finds_all_damage_at_once_also_behind_a_damaged_pass(workdir: Workdir) -> None:
    on = "corpus.filters.duplicates=true"
    workdir.make(workdir.recipe(on), "preprocess")
    whole = shards_of(workdir)
    victims = [
        next(path for path in sorted(workdir.workspace.root.glob(pattern)) if path.stat().st_size)
        for pattern in ("fingerprints/*/*.bin", "shards/*/train.txt.zst")
    ]
    for victim in victims:
        raw = bytearray(victim.read_bytes())
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(bytes(raw))
    assert done(workdir, "jobs.preprocess", "run", "--verify", on).count("is damaged") == 2
    assert shards_of(workdir) == whole


@pytest.mark.parametrize("size", [None, 0, 5])
def test_a_list_of_duplicates_that_is_gone_or_cut_is_made_again(
    workdir: Workdir, size: int | None
) -> None:
    on = "corpus.filters.duplicates=true"
    text = workdir.web.read_text(encoding="utf-8")
    workdir.web.write_text(f"{text}\n{text}", encoding="utf-8")
    workdir.make(workdir.recipe(on), "preprocess")
    whole = shards_of(workdir)
    (victim,) = workdir.workspace.root.glob("duplicates/*/*.bin")
    if size is None:
        victim.unlink()
    else:
        os.truncate(victim, size)
    found = json.loads(done(workdir, "jobs.preprocess", "status", "--json", on))
    assert found["passes"]["deduplicate"]["broken"] == 1
    assert str(victim) in found["waits"]
    done(workdir, "jobs.preprocess", "run", on)
    assert shards_of(workdir) == whole


def test_duplicates_are_left_out_by_the_one_command(workdir: Workdir) -> None:
    on = "corpus.filters.duplicates=true"
    text = workdir.web.read_text(encoding="utf-8")
    workdir.web.write_text(f"{text}\n{text}", encoding="utf-8")
    done(workdir, "jobs.download", "run", on)
    found = json.loads(done(workdir, "jobs.preprocess", "status", "--json", on))
    assert "waits" in found
    assert found["passes"]["fingerprint"]["missing"] >= 3
    done(workdir, "jobs.preprocess", "run", on)
    found = json.loads(done(workdir, "jobs.preprocess", "status", "--json", on))
    assert found["missing"] == found["stale"] == 0
    assert found["passes"]["deduplicate"]["done"] == 1
    assert "| left out: duplicates |" in done(workdir, "jobs.preprocess", "report", on)
