"""What the tests share: texts and a recipe small enough for seconds, and the command line."""

from __future__ import annotations

import atexit
import bz2
import gc
import importlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import yaml
from filelock import FileLock
from xdist.scheduler import LoadFileScheduling

from kit.config.run import run_of
from kit.relay import resolve
from kit.relay.stages import STAGES
from kit.run.environment import importing
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from types import ModuleType

    from kit.config.recipe import Recipe

from tests import relay, warm
from tests.server import BODY, Server, serving
from tests.speed import VARIABLE, patience, speed

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600  # seconds on the machine of tests/speed.py, for a test that gives no other
# The files with the fixture `preempted`: a whole relay.
READ_A_RELAY = {
    "tests/end_to_end": ("card", "relay", "report"),
    "tests/slurm": ("chain", "check", "plain_scripts", "relay"),
}
WEB_DOCUMENTS = 30  # of the demo's: enough for a vocabulary of 1,200

ARTICLES = [
    (
        "霧浜県",
        0,
        None,
        "'''霧浜県'''は、海に面した県である。県庁は[[霧浜市]]にある。",
    ),
    ("灯野川", 0, None, "'''灯野川'''は、県を流れる川である。\n\n水は澄む。鮎がいる。"),
    ("エキデン", 0, "駅伝競走", "#転送 [[駅伝競走]]"),
    ("Template:県", 10, None, "<includeonly>雛形の中身である。</includeonly>"),
    ("Wikipedia:井戸端", 4, None, "ここは話し合いの頁である。"),
    (
        "駅伝競走",
        0,
        None,
        "'''駅伝'''は、{{lang|en|relay}}の一つで、襷をつなぐ。\n== 歴史 ==\n古い。",
    ),
]


def pytest_configure() -> None:
    """Calibrate once, for this process and those that it starts."""
    # An example takes longer beside other tests; how long a test may take, its time-out says.
    hypothesis.settings.register_profile("ekiden", deadline=None)
    hypothesis.settings.load_profile("ekiden")
    os.environ[VARIABLE] = f"{speed():.3g}"
    resolve.run_of = _run_of_a_test


def _run_of_a_test(recipe: Recipe) -> Run:
    """The run that a test loads, which is never that of `make demo`."""
    run = run_of(recipe)
    of_demo = run.root.is_relative_to(ROOT / "work" / "demo")
    assert not of_demo, f"{run.root}: a test gives its own workspace"
    return run


def units_of(module: Any, recipe: Recipe) -> list[Unit]:
    """The units of a stage, given its module, of the recipe's own run."""
    found: list[Unit] = module.units(run_of(recipe), recipe)
    return found


def pytest_report_header() -> str:
    """Part of pytest's first lines."""
    return f"speed of this machine: {speed():.2f} ({VARIABLE})"


class _Scheduling(LoadFileScheduling):
    """Each file in one process; those that read one relay in the same, as it takes most of a minute."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder, _, name = file.rpartition("/test_")
        return folder if name.removesuffix(".py") in READ_A_RELAY.get(folder, ()) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Share the tests out among the processes."""
    return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector: what is imported stays, and is never searched."""
    with importing():
        yield
    atexit.register(gc.freeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test has the time that it takes on a machine of this speed."""
    for item in items:
        given = item.get_closest_marker("timeout")
        seconds = given.args[0] if given else TIMEOUT
        item.add_marker(pytest.mark.timeout(patience(seconds)), append=False)


@dataclass(frozen=True)
class Workdir:
    """A folder with a recipe, a cluster file and two small texts."""

    folder: Path

    @property
    def recipe_file(self) -> Path:
        return self.folder / "small.yaml"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "work")

    @property
    def web(self) -> Path:
        return self.folder / "web.txt"

    @property
    def dump(self) -> Path:
        return self.folder / "dump.xml.bz2"

    def recipe(self, *overrides: str) -> Recipe:
        """The resolved recipe, as a run directory would hold it."""
        return resolve.load(self.recipe_file, list(overrides), "local").recipe

    def make(self, recipe: Recipe, last: str) -> None:
        """The files of all stages up to one, by one task each."""
        names = [found.name for found in STAGES]
        for found in STAGES[: names.index(last) + 1]:
            if found.applies(recipe):
                module = importlib.import_module(found.module)
                make_units(found.name, units_of(module, recipe))

    def write(self, name: str, tree: dict[str, Any]) -> Path:
        """A YAML file in the folder."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        return path

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command line of the checkout, in a process of its own; see tests/warm.py."""
        return warm.run(module, *arguments, environment={"TOKENIZERS_PARALLELISM": "false"})


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """configs/demo/pack.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("pack", ROOT / "configs/demo/pack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def streams(pack: ModuleType) -> list[bytes]:
    """The bz2 streams of a small dump: a header, two streams of three pages, the closing tag."""
    pages = [pack.page(number, *article) for number, article in enumerate(ARTICLES, 1)]
    texts = [pack.HEADER, "".join(pages[:3]), "".join(pages[3:]), "</mediawiki>\n"]
    return [bz2.compress(text.encode()) for text in texts]


@pytest.fixture
def workdir(tmp_path: Path, streams: list[bytes]) -> Workdir:
    """A recipe over the small dump and the head of the demo's web text."""
    return new_workdir(tmp_path, streams)


def new_workdir(folder: Path, streams: list[bytes]) -> Workdir:
    """The same in a folder of one's own."""
    made = Workdir(folder)
    documents = (ROOT / "configs/demo/web.txt").read_text(encoding="utf-8").split("\n\n")
    made.web.write_text("\n\n".join(documents[:WEB_DOCUMENTS]) + "\n", encoding="utf-8")
    made.dump.write_bytes(b"".join(streams))
    (folder / "cluster").mkdir()
    made.write(
        "cluster/local.yaml",
        {
            "name": "local",
            "kind": "local",
            "training": {"ranks_per_node": 2},
        },
    )
    (folder / "zero2.json").write_text('{"zero_optimization": {"stage": 2}}', encoding="utf-8")
    made.write(
        "small.yaml",
        {
            "name": "small",
            "workspace": str(folder / "work"),
            "corpus": {
                "sources": {
                    "jawiki": {"kind": "wikipedia", "location": "dump.xml.bz2"},
                    "web": {"kind": "plaintext", "location": "web.txt"},
                },
                "unit_mb": 0.004,
                "tasks": 2,
                "held_out": 0.1,
                "segmenter": "mecab",
            },
            "tokenizer": {"vocab_size": 1200},
            "tokens": {"tasks": 2},
            "model": {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 16},
            "training": {
                "steps": 10,
                "precision": "fp32",  # quick on any CPU; what other precisions add has its own tests
                "global_batch": 8,
                "micro_batch": 2,
                "learning_rate": 0.001,
                "validate_every": 5,
                "checkpoint_every": 5,
                "deepspeed": "zero2.json",
            },
            "tracking": {"mlflow": "workspace"},
        },
    )
    return made


@pytest.fixture(scope="session")
def web_texts() -> list[str]:
    """The head of the demo's web text as documents of a shard."""
    from kit.config.recipe import Corpus, Source
    from kit.corpus import segment
    from kit.corpus.steps import segment_document

    corpus = Corpus(
        sources={"web": Source(kind="plaintext", location="web.txt")},
        unit_mb=1,
        tasks=1,
        held_out=0.1,
    )
    text = (ROOT / "configs/demo/web.txt").read_text(encoding="utf-8")
    documents = [document.split("\n") for document in text.split("\n\n")[:WEB_DOCUMENTS]]
    with segment.open("mecab", None, 1) as words:
        found = [segment_document(lines, corpus, words) for lines in documents]
    return ["".join(f"{sentence}\n" for sentence in sentences) for sentences in found]


@pytest.fixture(scope="session")
def web_words(web_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often each word stands in it."""
    from kit.tokenizer.count import count

    chunks = count(web_texts, "lossless", tmp_path_factory.mktemp("runs"))
    return {
        word: number
        for chunk in chunks
        for word, number in zip(chunk.words, chunk.counts, strict=True)
    }


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the demo's tokens: made once for all workers, to be copied."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "tokens-of-the-demo"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            fresh = shared.with_name(f".{shared.name}")
            relay.make_tokens(fresh)
            fresh.rename(shared)
    return shared


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose every file is `BODY`."""
    with serving() as state:
        state.body = BODY
        yield state


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """Where a file is fetched to: nothing stands there yet, nor is there the folder."""
    return tmp_path / "fetched" / "web.txt"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An empty run directory."""
    made = Run(tmp_path / "run")
    for folder in (made.attempts, made.checkpoints):
        folder.mkdir(parents=True)
    return made
