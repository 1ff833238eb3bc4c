"""The commands of README and docs: every one can be parsed, and every one that can run on a laptop runs.

The blocks of a page run in order, in a scratch folder that looks like a checkout with a finished demo. What
needs more is marked on its page (tests/markdown.py), and is parsed only.
"""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
import yaml

from jobs import ekiden
from jobs.command import WithDefault, new_app
from kit.cluster import lock
from kit.config import presets
from kit.config.cluster import Cluster
from kit.config.fields import type_at
from kit.config.recipe import Recipe
from kit.relay.resolve import read_run
from kit.store.paths import Run
from tests.markdown import NEEDS, Block, blocks, commands, pages, statements
from tests.printed import not_printed
from tests.relay import ROOT, copy_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGES = [page for page in pages() if any(blocks(page))]
# Commands that no page runs, by how they begin, and why.
ELSEWHERE = {
    ("make", "install"): "CI installs",
    ("make", "demo"): "CI runs the demo in tests/end_to_end",
    ("make", "test"): "it is CI",
    ("make", "unit"): "CI runs the same tests",
    ("make", "slurm"): "CI runs it",
    ("make", "programs"): "CI runs it, and this is one of its tests",
    ("make", "lint"): "CI runs it",
    ("make", "test-long"): "it has this test, and takes hours",
    ("make", "chaos"): "tests/chaos runs a shorter one",
    ("make", "bench"): "tests/programs/test_benchmarks.py runs each with less",
    ("make", "wheel"): "tests/programs/test_package.py builds it",
    ("make", "reference"): "a unit test holds its output against the files",
    ("make", "mlflow"): "a server",
    ("make", "docs"): "its environment is not that of the tests",
    ("make", "lock"): "it asks the registry for newer versions",
    ("make", "clean"): "it removes the environment that the tests run in",
    ("python", "-m", "tests.chaos"): "tests/chaos runs a shorter one",
    ("python", "-m", "tests.experiments"): "tests/programs/test_experiments.py runs a smaller one",
    ("python", "-m", "pytest"): "CI",
    ("python", "-m", "tests.benchmarks"): "tests/programs/test_benchmarks.py runs each with less",
    ("tensorboard",): "a server",
    ("tail", "-f"): "it has no end",
    ("watch",): "it has no end",
    ("ekiden", "--install-completion"): "it writes to the files of the shell",
}
GROUP: Any = typer.main.get_command(ekiden.build(new_app))
HELP = {"-h", "--help"}
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
VARIABLES = set(
    re.findall(r"^(?:export )?(\w+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE)
)
BLOCKS = [block for page in PAGES for block in blocks(page)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def plain(words: Sequence[str]) -> list[str]:
    """A command as if the environment were active: `.venv/bin/ekiden` is `ekiden`."""
    program = re.sub(r"^\S*\bbin/(?=(ekiden|python3?|tensorboard)$)", "", words[0])
    command = ["python" if program == "python3" else program, *words[1:]]
    if command[:2] == ["python", "-m"] and command[2].startswith("jobs."):
        job = command[2].removeprefix("jobs.")
        return ["ekiden", *([] if job == "ekiden" else [job]), *command[3:]]
    return command


def elsewhere(words: Sequence[str]) -> bool:
    """Whether no page runs the command."""
    command = plain(words)
    return any(
        all(
            word == one or word.startswith(f"{one}.")
            for word, one in zip(command, start, strict=False)
        )
        for start in ELSEWHERE
        if len(command) >= len(start)
    )


def mistakes(block: Block) -> Iterator[str]:
    """What is wrong with the commands of a block, before any runs."""
    if block.needs is not None and block.needs not in NEEDS:
        yield f"needs: {block.needs}; known: {', '.join(NEEDS)}"
    made = made_by(block.page)
    for words in block.commands:
        command = plain(words)
        yield from mistakes_of(command)
        for word in (
            word for word in command if word.startswith(("configs/", "sbatch/", "tests/"))
        ):
            if (
                not (ROOT / word.partition("::")[0]).exists()
                and not any(ROOT.glob(word))
                and word not in made
            ):
                yield f"{word}: there is no such file"


def made_by(page: Path) -> set[str]:
    """The files that commands of a page make by copying."""
    copies = [c for block in blocks(page) for c in block.commands if c[0] in ("cp", "mv", "mkdir")]
    written = {word for block in blocks(page) for word in re.findall(r">>?\s*(\S+)", block.text)}
    return written | {command[-1] for command in copies}


def mistakes_of(command: list[str]) -> Iterator[str]:
    if command[0] == "ekiden":
        yield from mistakes_of_ekiden(command[1:])
    elif command[0] == "make":
        for word in (word for word in command[1:] if not word.startswith("-")):
            name, is_variable, _ = word.partition("=")
            if name not in (VARIABLES | {"PYTHON"} if is_variable else TARGETS):
                yield f"make {word}: the Makefile has no such {'variable' if is_variable else 'target'}"
    elif command[:2] == ["python", "-m"] and command[2].startswith(("tests.", "kit.")):
        placeholder = command[2].rpartition(".")[2].isupper()
        if not placeholder and importlib.util.find_spec(command[2]) is None:
            yield f"python -m {command[2]}: there is no such module"


def mistakes_of_ekiden(words: list[str]) -> Iterator[str]:
    called, group = "ekiden", GROUP
    while words and hasattr(group, "get_command"):
        word, *rest = words
        if word.startswith("-"):
            if (
                not any(word.split("=")[0] in option.opts for option in group.params)
                and word not in HELP
            ):
                yield f"{called}: has no option {word}"
            return
        if isinstance(group, WithDefault) and word not in group.commands:
            word, rest = next(iter(group.commands)), words
        if (found := group.get_command(None, word)) is None:
            yield f"{called} {word}: there is no such job or verb"
            return
        called, group, words = f"{called} {word}", found, rest
    if HELP & {*words}:
        return
    try:
        context = group.make_context(called, list(words))
    except Exception as error:  # typer's own have no public base
        yield f"{called} {' '.join(words)}: {' '.join(str(error).split()) or type(error).__name__}"
        return
    yield from mistakes_of_parameters(called, context.params)


def mistakes_of_parameters(called: str, given: dict[str, Any]) -> Iterator[str]:
    for override in given.get("overrides") or given.get("settings") or ():
        key, equals, _ = override.partition("=")
        if called.endswith("generate text") and not equals:
            continue  # a prompt
        kind: Any = Cluster if key.startswith("cluster.") else Recipe
        path = key.removeprefix("cluster.").split(".")
        if not equals or type_at(kind, path) is None:
            yield f"{called}: {override}: there is no such key"
    recipe, cluster = str(given.get("recipe_file") or ""), given.get("cluster_name") or ""
    placeholder = recipe.isupper()
    if presets.is_name(recipe) and not placeholder and recipe not in presets.recipes():
        yield f"{called}: {recipe}: is no recipe of configs"
    if presets.is_name(cluster) and cluster not in presets.clusters(ROOT / "configs"):
        yield f"{called}: --cluster {cluster}: is no cluster file of configs"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_command_has_jobs_verbs_options_keys_and_files_that_there_are(block: Block) -> None:
    assert not [*mistakes(block)], block.place


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("ekiden pipelin run demo", "no such job"),
        ("ekiden train runn demo", "no such job or verb"),
        ("ekiden train run demo --quick", "--quick"),
        ("ekiden train run demo training.step=3", "no such key"),
        ("ekiden train run nothing", "is no recipe"),
        ("ekiden train run demo --cluster nowhere", "is no cluster"),
        (".venv/bin/python -m jobs.train run", "recipe_file"),
        ("cd work && ekiden train run configs/nothing.yaml", "no such file"),
        ("env/bin/ekiden train ran", "no such job"),
        ("make nothing", "no such target"),
        ("make demo DUMPS=x", "no such variable"),
        ("python -m tests.benchmarks.nothing", "no such module"),
    ],
)
def test_a_mistake_in_a_page_is_found(line: str, mistake: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- needs: days -->\n```sh\n{line}\n```\n", encoding="utf-8")
    (block,) = blocks(page)
    (found,) = mistakes(block)
    assert mistake in found


def test_an_unknown_need_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- needs: luck -->\n```sh\nls\n```\n", encoding="utf-8")
    assert "luck" in next(mistakes(*blocks(page)))


def test_a_line_that_no_command_has_printed_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shown = "a save   0.2 s, blocking training for 1 ms\n...\ndisk  1 GB are free\n"
    page.write_text(f"```sh\nekiden list\n```\n```text\n{shown}```\n", encoding="utf-8")
    said = "--- page.md:2\na save  1 min 3 s, blocking training for 2 s\ndisk  3.1 MB free\n"
    assert [*not_printed(page, said)] == ["page.md:5: disk 0 UNIT are free"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Looks like a checkout after `make demo`, with a smaller model, one rank and a short training."""
    folder = tmp_path_factory.mktemp("finished") / "ekiden"
    folder.mkdir()
    for name in (
        "configs",
        "docs",
        "jobs",
        "kit",
        "sbatch",
        "tests",
        "Makefile",
        "README.md",
        "pyproject.toml",
    ):
        copy: Any = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    recipe = folder / "configs/demo.yaml"
    tree = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    tree["model"] |= {"n_layer": 1, "n_embd": 32, "n_head": 2}
    tree["training"] |= {"validation_blocks": 8}
    recipe.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    cluster = folder / "configs/cluster/local.yaml"
    text = cluster.read_text(encoding="utf-8")
    cluster.write_text(text.replace("ranks_per_node: 2", "ranks_per_node: 1"), encoding="utf-8")
    _programs(folder)
    said = _shell(folder, "ekiden pipeline run demo cluster.preempt_at_step=60")
    assert said.returncode == 0, said.stdout
    return folder


@pytest.fixture
def checkout(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, in which nothing works any more when the test ends."""
    folder = copy_of(finished, tmp_path / "ekiden")
    _programs(folder)
    yield folder
    for path in folder.glob("work/*/runs/*"):
        run = Run(path)
        if path.is_dir() and lock.is_held(run):
            run.stop.touch()
            wait_until(lambda run=run: not lock.is_held(run), f"end of {path}")


def _programs(folder: Path) -> None:
    """An environment whose programs are those of the tests, with the folder's own code."""
    bin_ = folder / ".venv/bin"
    bin_.mkdir(parents=True, exist_ok=True)
    (bin_ / "activate").write_text(f'PATH="{bin_}:$PATH"\n', encoding="utf-8")
    exec_python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    ekiden_main = f"#!{sys.executable}\nfrom jobs.ekiden import main\n\nmain()\n"
    for name, text in (
        ("python", exec_python),
        ("python3", exec_python),
        ("ekiden", ekiden_main),
    ):
        path = bin_ / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def _shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"source .venv/bin/activate\n{script}"],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(folder), "HOME": str(home), "XDG_CACHE_HOME": cache, "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def script_of(page: Path) -> str:
    """The commands of a page that run, in order; of each block its place is printed before."""
    parts = []
    for block in blocks(page):
        if block.needs is None:
            parts.append(f"echo '--- {block.place}'\n")
            parts += [
                written
                for written, line in statements(block.text)
                if not all(elsewhere(words) for words in commands(line))
            ]
    return "".join(parts)


@pytest.mark.long  # a minute for the demo that they share, and a minute or two a page
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if not page.name.endswith(".ja.md")  # its commands are those of the page in English
        if any(block.needs is None for block in blocks(page))
    ],
    ids=name_of,
)
def test_the_commands_of_a_page_run(page: Path, checkout: Path) -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _shell(checkout, script_of(page))
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began.ru_utime
    assert done.returncode == 0, f"{name_of(page)}: exit code {done.returncode}\n{done.stdout}"
    print(f"{name_of(page)}: {took:.1f} s of processors\n{done.stdout}")
    assert [*not_printed(page, done.stdout)] == []
    for run in checkout.glob("work/*/runs/*"):
        read_run(run)
