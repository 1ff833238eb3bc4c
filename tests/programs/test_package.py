"""The wheel: what is in it, and that it runs where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit import __version__
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.package

SOURCES = ("jobs", "kit", "configs", "sbatch", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md",
           "LICENSE")  # fmt: skip
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, in which an earlier build has left something."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    (source / "build" / "lib" / "kit").mkdir(parents=True)
    (source / "build" / "lib" / "kit" / "stale.py").touch()
    command = [*PIP, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run(command, check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def bin(wheel: Path) -> Path:  # noqa: A001  as it is named in an environment
    """The programs of an environment with the wheel; all else is that of the tests."""
    folder = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in others]
    (packages / "others.pth").write_text("".join(lines), encoding="utf-8")
    install = ["--python", str(folder / "bin" / "python"), "install", "--no-deps"]
    subprocess.run([*PIP, *install, "--ignore-installed", str(wheel)], check=True)
    return folder / "bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def say(
    program: Path, *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None
) -> str:
    """What a program prints, where no variable leads to the checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(program), *arguments],
        cwd=cwd, env=environment | dict(variables or {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_is_called_by_name_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"ekiden-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as packed:
        infos = {info.filename: info for info in packed.infolist()}
    names = {name for name in infos if not name.startswith("ekiden-")}
    assert {"kit/py.typed", "jobs/py.typed", "kit/share/configs/deepspeed/zero2.json"} <= names
    assert "kit/share/sbatch/services/mlflow.sbatch" in names
    assert "kit/stale.py" not in names
    assert {name.split("/")[0] for name in names} == {"jobs", "kit"}
    assert not any("/demo/articles/" in name for name in names)
    assert infos["kit/share/sbatch/slurm/up.sh"].external_attr >> 16 & 0o111
    files = [info for name, info in infos.items() if not name.endswith(".py")]
    assert sum(info.compress_size for info in files) < 225_000


def test_it_runs_where_there_is_no_checkout(bin: Path, empty: Path) -> None:  # noqa: A002
    ekiden = bin / "ekiden"
    assert say(ekiden, "--version", cwd=empty) == f"ekiden {__version__}\n"
    recipe = json.loads(say(ekiden, "pipeline", "show", "demo", cwd=empty))["recipe"]
    assert recipe["workspace"] == str(empty / "work" / "demo")
    assert recipe["training"]["deepspeed"]["zero_optimization"]["stage"] == 2
    home = bin.parent / "lib"
    for source in recipe["corpus"]["sources"].values():
        assert Path(source["location"]).is_relative_to(home)
    cluster = json.loads(
        say(ekiden, "pipeline", "show", "gpt2-xl-ja", "--cluster", "mdx", cwd=empty)
    )
    assert cluster["cluster"]["name"] == "mdx"
    assert not list(empty.iterdir())


def test_a_run_of_it_keeps_its_code_and_writes_nothing_into_it(
    bin: Path,  # noqa: A002
    empty: Path,
) -> None:
    def files() -> set[Path]:
        return {path for path in bin.parent.rglob("*") if "__pycache__" not in path.parts}

    before = files()
    say(bin / "ekiden", "download", "run", "demo", cwd=empty)
    assert files() == before
    run = empty / "work" / "demo" / "runs" / "demo"
    assert (run / "code" / "jobs" / "train.py").is_file()
    assert not (run / "code" / "kit" / "share").exists()
    variables = {"PYTHONPATH": str((run / "code").resolve()), "PYTHONSAFEPATH": "1"}
    ask = ("-c", "import kit.cluster.entry as found; print(found.__file__)")
    shown = Path(say(bin / "python", *ask, cwd=empty, variables=variables).strip())
    assert shown.is_relative_to(run)
    listed = json.loads(say(bin / "ekiden", "list", "--json", cwd=empty))["runs"]
    assert [(row["run"], row["stage"]) for row in listed] == [("work/demo/runs/demo", "preprocess")]


def test_its_scripts_can_be_called(bin: Path, empty: Path) -> None:  # noqa: A002
    folder = Path(say(bin / "ekiden", "presets", "slurm", cwd=empty).strip())
    assert folder.is_relative_to(bin.parent)
    assert os.access(folder / "up.sh", os.X_OK)
    assert (folder / "templates" / "slurm.conf").is_file()


def test_a_shell_completes_its_jobs_verbs_and_recipes(bin: Path, empty: Path) -> None:  # noqa: A002
    def completed(*words: str) -> list[str]:
        variables = {
            "_EKIDEN_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(["ekiden", *words]),
            "COMP_CWORD": str(len(words)),
        }
        return say(bin / "ekiden", cwd=empty, variables=variables).split()

    assert completed("pipe") == ["pipeline"]
    assert completed("train", "re") == ["rehearse"]
    assert completed("train", "submit", "gpt2") == [
        "gpt2-xl-ja",
        "gpt2-xl-ja-2nodes",
        "gpt2-xl-ja-article",
    ]
    assert completed("train", "submit", "demo", "--cluster", "m") == ["mdx", "mdx-2nodes"]
    script = say(
        Path("/bin/bash"), "-c", '"$1" --show-completion; true', "_", str(bin / "ekiden"), cwd=empty
    )
    assert re.search(r"complete .*-F \w+ ekiden", script)
