"""A push against a stand-in for the Hub: one commit and its tag, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from jobs import push as command
from kit.errors import ConfigError, EkidenError, RunError, StageError, TransferError
from kit.release import hub as door
from kit.release import push
from kit.store import manifest
from kit.store.paths import Workspace
from tests import hub as stand_in
from tests.hub import TOKEN, Fault, StandInHub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Workdir

REPOSITORY = "ann/demo-gpt2"
WEIGHTS = os.urandom(300_000)
FILES = {
    "README.md": b"---\nlicense: other\n---\n# demo\n",
    "config.json": b"{}\n",
    "tokenizer.json": b"{}\n",
    "model.safetensors": WEIGHTS,
    "runs/events.out.tfevents.1": b"events",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    with stand_in.serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.url)
        monkeypatch.setattr(door.time, "sleep", WAITS.append)
        WAITS.clear()
        yield server


WAITS: list[float] = []


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    checkpoint = {"checkpoint": "step-00000080.attempt-0002"}
    manifest.commit(folder, manifest.causes("export", 1, {}, checkpoint), published=True)
    return folder


def pushed(folder: Path, tag: str = "step-80", *, public: bool = False) -> push.Pushed:
    return push.push(push.plan(folder), REPOSITORY, tag=tag, public=public)


def test_a_push_is_one_commit_with_a_tag_in_a_private_repository(
    hub: StandInHub, export: Path
) -> None:
    done = pushed(export)
    assert hub.private == {REPOSITORY: True}
    assert hub.messages == ["initial commit", "Step 80"]
    assert hub.tags == {"step-80": done.commit} == {"step-80": hub.head}
    there = hub.commits[hub.head]
    assert there.pop(".gitattributes")
    assert there == FILES | {"manifest.json": (export / "manifest.json").read_bytes()}


def test_a_second_push_of_the_same_files_sends_nothing(hub: StandInHub, export: Path) -> None:
    first = pushed(export)
    received, commits = hub.received, len(hub.commits)
    assert pushed(export) == first
    assert pushed(export, "newest").commit == first.commit
    assert (hub.received, len(hub.commits)) == (received, commits)
    assert hub.tags == {"step-80": first.commit, "newest": first.commit}


def test_what_an_earlier_push_left_is_removed_in_the_same_commit(
    hub: StandInHub, export: Path
) -> None:
    hub.private[REPOSITORY] = True
    old = {"model-00001-of-00002.safetensors": b"1", "demo-F16.gguf": b"2", "LICENSE": b"3"}
    hub.add(old)
    done = pushed(export)
    assert done.removed == ("model-00001-of-00002.safetensors", "demo-F16.gguf")
    assert {"LICENSE", *FILES} < {*hub.commits[hub.head]}
    assert not {*done.removed} & {*hub.commits[hub.head]}
    assert len(hub.commits) == 3


@pytest.mark.parametrize("path", ["PUT /lfs/", "POST .*/commit/", "POST .*/preupload/", "/tag/"])
def test_a_connection_that_breaks_off_is_made_again(
    hub: StandInHub, export: Path, path: str
) -> None:
    hub.faults = [Fault(path, None)]
    done = pushed(export)
    assert hub.tags == {"step-80": done.commit}
    assert len(hub.commits) == 2
    assert hub.received == len(WEIGHTS)


def test_a_push_that_was_given_up_goes_on_without_sending_anything_twice(
    hub: StandInHub, export: Path
) -> None:
    hub.faults = [Fault("POST .*/commit/", None, times=100)]
    with pytest.raises(TransferError, match="run the same command again"):
        pushed(export)
    assert [*hub.commits] == [hub.head]  # nothing of it shows
    assert WAITS == [2, 4, 8, 16, 32]
    hub.faults = []
    pushed(export)
    assert hub.received == len(WEIGHTS)
    assert hub.messages[-1] == "Step 80"


def test_after_a_rate_limit_it_waits_as_long_as_it_is_told(hub: StandInHub, export: Path) -> None:
    hub.faults = [Fault("POST .*/commit/", 429, headers={"Retry-After": "21"})]
    limit = {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=100;w=300'}
    hub.faults.append(Fault("/refs", 429, headers=limit))
    pushed(export)
    assert WAITS == [55, 21]


def test_a_conflict_with_another_push_is_tried_again(hub: StandInHub, export: Path) -> None:
    hub.faults = [Fault("POST .*/commit/", 409)]
    pushed(export)
    assert len(hub.commits) == 2
    assert WAITS == [2]


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault("create", 401, 9), ConfigError, r"refuses this token \(401\); set HF_TOKEN, or"),
        (Fault("create", 403, 9), ConfigError, r"refuses this token \(403\)"),
        (Fault("/commit/", 403, 9), ConfigError, r"refuses this token \(403\)"),
        (Fault("/commit/", 413, 9), RunError, r"the Hub refuses this \(413\)"),
        (Fault("/commit/", 409, 9), TransferError, "409"),
        (Fault("/commit/", 503, 9), TransferError, "503"),
    ],
    ids=lambda value: f"{value.path}-{value.status}" if isinstance(value, Fault) else "",
)
def test_a_refusal_is_one_line(
    hub: StandInHub, export: Path, fault: Fault, kind: type[EkidenError], message: str
) -> None:
    hub.faults = [fault]
    with pytest.raises(kind, match=message) as error:
        pushed(export)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    assert len(hub.commits) == 1


def test_a_card_that_the_hub_refuses_is_told_before_anything_is_sent(
    hub: StandInHub, export: Path
) -> None:
    hub.rejected_card = '"license" must be one of apache-2.0, mit'
    with pytest.raises(RunError, match=r'"license" must be one of apache-2\.0, mit'):
        pushed(export)
    assert hub.received == 0


def test_a_public_repository_wants_to_be_named_as_such(hub: StandInHub, export: Path) -> None:
    pushed(export, public=True)
    assert hub.private == {REPOSITORY: False}
    with pytest.raises(RunError, match=r"is public; give --public to push there"):
        pushed(export)


def test_a_tag_of_other_files_is_refused_before_anything_is_sent(
    hub: StandInHub, export: Path
) -> None:
    hub.private[REPOSITORY] = True
    hub.tags["step-80"] = hub.add({"config.json": b"other"})
    with pytest.raises(RunError, match="tag step-80 is at other files; give another --tag"):
        pushed(export)
    assert hub.received == 0


def test_a_damaged_folder_is_refused_and_a_completed_card_is_pushed(
    hub: StandInHub, export: Path
) -> None:
    (export / "README.md").write_bytes(FILES["README.md"] + b"## Limits\n")
    (export / "LICENSE").write_bytes(b"mine")
    assert push.plan(export).by_hand == ("README.md", "LICENSE")
    pushed(export)
    assert hub.commits[hub.head]["README.md"].endswith(b"## Limits\n")
    (export / "model.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(StageError, match=r"model\.safetensors: 299,999 bytes"):
        push.plan(export)


@pytest.mark.parametrize("name", ["demo", "a/b/c", "ann/de mo", "", "ann/de..mo"])
def test_a_name_without_an_owner_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ConfigError, match="give OWNER/NAME"):
        door.Hub(name)


def test_without_a_token_nothing_is_asked(
    hub: StandInHub, export: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no token of the Hub: set HF_TOKEN, or run `hf auth"):
        pushed(export)
    assert not hub.requests


def told(*arguments: object) -> str:
    words = [*map(str, arguments)]
    return CliRunner().invoke(command.app, words, catch_exceptions=False).stdout


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    shown = told(export, REPOSITORY, "--dry-run")
    assert "300 kB  model.safetensors" in shown
    assert "would send 6 files" in shown
    facts: dict[str, Any] = json.loads(told(export, REPOSITORY, "--dry-run", "--json"))
    assert facts["files"]["model.safetensors"] == len(WEIGHTS)
    assert facts["tag"] == "step-80"


def test_a_recipe_stands_for_its_export_and_a_step_for_that_of_its_checkpoint(
    hub: StandInHub, export: Path, workdir: Workdir
) -> None:
    run = Workspace(workdir.workspace.root).run("small")
    with pytest.raises(StageError, match=r"not exported yet; run ekiden export first"):
        told(workdir.recipe_file, REPOSITORY)
    with pytest.raises(StageError, match=r"run ekiden export .*small\.yaml --step 40 first"):
        told(workdir.recipe_file, REPOSITORY, "--step", 40)
    with pytest.raises(ConfigError, match="is an export, of one step; remove --step"):
        told(export, REPOSITORY, "--step", 40)
    for place in (run.export, run.at(40).export):
        shutil.copytree(export, place)
    assert json.loads(told(workdir.recipe_file, REPOSITORY, "--json"))["commit"] == hub.head
    words = ["--step", 40, "--tag", "early", "--json"]
    assert json.loads(told(workdir.recipe_file, REPOSITORY, *words))["export"] == str(
        run.at(40).export
    )
    assert {*hub.tags} == {"step-80", "early"}


def test_the_command_pushes_by_the_token_of_the_environment_and_writes_it_nowhere(
    hub: StandInHub, export: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }
    words = [sys.executable, "-m", "jobs.push", str(export), REPOSITORY]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert f"at {hub.url}/{REPOSITORY}/tree/step-80" in done.stdout
    assert hub.tags == {"step-80": hub.head}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in done.stdout + done.stderr
