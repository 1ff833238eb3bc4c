"""The compiled search for words: those of MeCab, and its machine code in the cache."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kit.corpus import segment
from kit.corpus.segmenters import dictionary, jumandic, lattice
from kit.corpus.segmenters import search as source
from kit.corpus.segmenters.mecab import LONGEST, MeCab
from kit.store import machine_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.corpus.segmenters.lattice import Lattice

SEARCH = "kit.corpus.segmenters.search"
ODD = ["駅伝\0走者", "東京\u3000", "\t", "走者\xa0", "駅\uffff伝"]
POOLS = (
    "東京都京都府駅伝走者大学生前向日本語語学学校",
    "すももももものうちのにわにはにわにわとりがいるではなかったかもしれないのでしょう",
    "ランニングマラソンコースッーァヴ",
    "abcXYZhttp://www.example.com/~?q=1&r=2",
    "0123456789０１２３一二三四五六七八九十百千万億",
    "、。「」（）…！？〜―・*#%[]{}",
    "αβγДЖЯéüñ한국어𠮷野家🗾👨‍👩‍👧ﾊﾝｶｸｶﾞ々〆〇",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    """A dictionary."""
    return jumandic.folder(segment._cache())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache of compiled code."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _in_that_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))


@pytest.fixture
def compiled() -> Callable[..., int]:
    """The compiled search."""
    return machine_code.function(SEARCH, "segment")


@pytest.fixture
def search(folder: Path, compiled: Callable[..., int]) -> Lattice:
    found = dictionary.read(folder)
    assert found is not None
    return lattice.Lattice(found, compiled, LONGEST)


def drawn(number: int) -> list[str]:
    """Texts of one kind of character and of several, of all lengths, some beyond a block."""
    dice = random.Random(1)
    every = "".join(POOLS)
    lengths = [*range(40), 500, LONGEST]
    return [
        "".join(dice.choices(dice.choice([*POOLS, every]), k=dice.choice(lengths)))
        for _ in range(number)
    ]


def test_the_words_are_those_of_mecab(search: Lattice, folder: Path, root: Path) -> None:
    real = (root / "configs/demo/web.txt").read_text(encoding="utf-8").split()
    texts = [*drawn(500), *(text[:LONGEST] for text in real)]
    assert len(real) > 300
    parse = MeCab(segment._cache())._engine.parse
    assert search.words(texts) == [*map(parse, texts)]


def test_records_and_blocks_are_as_large_as_the_search_takes_them() -> None:
    sizes = ("_BLOCK", "_MATCH", "_NODE", "_OPEN")
    assert all(getattr(lattice, name) == getattr(source, name) for name in sizes)
    assert lattice._SIDE == source._OF_SIDE


def test_texts_that_mecab_reads_otherwise_are_left_to_it(search: Lattice) -> None:
    texts = ["駅伝", *ODD, "", "走者が走る"]
    assert search.words(texts) == ["駅伝", *[""] * len(ODD), "", "走者 が 走る"]


@pytest.mark.parametrize("room", ["_MATCHES", "_NODES"])
def test_texts_with_too_many_words_are_left_to_it(
    folder: Path, compiled: Callable[..., int], monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    monkeypatch.setattr(lattice, room, 300)
    found = dictionary.read(folder)
    assert found is not None
    small = lattice.Lattice(found, compiled, LONGEST)
    assert small.words(["駅伝", "すもも" * 1000]) == ["", ""]
    assert small.words(["駅伝"]) == ["駅伝"]


def test_a_longer_text_than_there_is_room_for_is_not_searched(
    folder: Path, compiled: Callable[..., int]
) -> None:
    found = dictionary.read(folder)
    assert found is not None
    with pytest.raises(AssertionError):
        lattice.Lattice(found, compiled, longest=10).words(["駅伝" * 2000])


def test_after_some_text_mecab_is_asked_only_for_what_is_left_to_it(
    search: Lattice, monkeypatch: pytest.MonkeyPatch
) -> None:
    del search  # the cache has it
    batches = [
        [f"{number}番目の走者が走る" for number in range(100)],
        ["駅伝", "", "東京\u3000都", "走者が走る"],
    ]
    expected = [*MeCab(segment._cache()).stream(batches)]
    made = MeCab(segment._cache())
    monkeypatch.setattr("kit.corpus.segmenters.mecab._LOADING", 500)
    monkeypatch.setattr(made, "_engine", type(made._engine)(jumandic.folder(segment._cache())))
    parse, asked = made._engine.parse, list[str]()

    def parsed(text: str) -> str:
        asked.append(text)
        return parse(text)

    monkeypatch.setattr(made._engine, "parse", parsed)
    assert [*made.stream(batches)] == expected
    assert asked == ["東京\u3000都"]
    assert made._engine._lattice is not None


def test_it_is_compiled_once_there_was_enough_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Callable[..., int]
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("kit.corpus.segmenters.mecab._LOADING", 5)
    monkeypatch.setattr("kit.corpus.segmenters.mecab._COMPILING", 20)
    monkeypatch.setattr(machine_code, "function", lambda *_: compiled)
    engine = type(MeCab(segment._cache())._engine)(jumandic.folder(segment._cache()))
    held = []
    for _ in range(4):
        assert engine.words(["走者が走る", ""]) == ["走者 が 走る", ""]
        held.append(engine._lattice is not None)
    assert held == [False, False, False, False]
    assert engine.words(["走者が走る"]) == ["走者 が 走る"]
    assert engine._lattice is not None


def test_another_process_loads_the_machine_code_without_numba(compiled: Callable[..., int]) -> None:
    del compiled  # the cache has it
    program = (
        "import sys\nfrom kit.store import machine_code\n"
        f"print(machine_code.cached({SEARCH!r}, 'segment') is not None, 'numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "renamed"])
def test_damaged_machine_code_is_not_loaded(
    compiled: Callable[..., int],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    del compiled
    (whole,) = cache.rglob("search-segment-*")
    raw = whole.read_bytes()
    damaged = {
        "cut": raw[:-100],
        "empty": b"",
        "changed": raw[:-1] + bytes([raw[-1] ^ 1]),
        "renamed": raw.replace(b"segment", b"segmemt", 1),
    }[damage]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    copy = tmp_path / "ekiden" / "numba" / whole.name
    assert machine_code.cached(SEARCH, "segment") is None
    copy.parent.mkdir(parents=True)
    copy.write_bytes(damaged)
    assert machine_code.cached(SEARCH, "segment") is None
    copy.write_bytes(raw)
    assert machine_code.cached(SEARCH, "segment") is not None


@pytest.mark.parametrize(
    ("name", "content"),
    [("dicrc", b"max-grouping-size = 10\n"), ("unk.dic", b"no dictionary" * 10)],
)
def test_a_dictionary_of_another_format_or_option_is_not_read(
    folder: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert dictionary.read(tmp_path) is not None
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content)
    assert dictionary.read(tmp_path) is None


def test_where_nothing_compiles_mecab_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("kit.corpus.segmenters.mecab._LOADING", 5)
    monkeypatch.setattr("kit.corpus.segmenters.mecab._COMPILING", 10)
    for missing in ("numba", "llvmlite", "llvmlite.binding"):
        monkeypatch.setitem(sys.modules, missing, None)
    machine_code.function.cache_clear()
    (tmp_path / "ekiden" / "numba").mkdir(parents=True)
    (tmp_path / "ekiden" / "numba" / "search-segment-0").touch()
    engine = type(MeCab(segment._cache())._engine)(jumandic.folder(segment._cache()))
    for _ in range(5):
        assert engine.words(["走者が走る", ""]) == ["走者 が 走る", ""]
    assert engine._lattice is None
    (record,) = caplog.records
    assert record.getMessage().startswith(f"numba does not compile {SEARCH}.segment here (")


def test_code_for_another_processor_has_its_own_file(
    compiled: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    del compiled  # the cache has it
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert machine_code.cached(SEARCH, "segment") is None


def test_a_dictionary_with_sides_beyond_its_matrix_is_not_searched(
    folder: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        if path.name != "unk.dic":
            (tmp_path / path.name).symlink_to(path)
    raw = bytearray((folder / "unk.dic").read_bytes())
    (tmp_path / "unk.dic").write_bytes(raw)
    assert dictionary.read(tmp_path) is not None
    layout = jumandic.layout_of(bytes(raw[: jumandic.HEADER]), len(raw))
    assert layout is not None
    raw[layout.words : layout.words + 2] = b"\xff\xff"
    (tmp_path / "unk.dic").write_bytes(raw)
    assert dictionary.read(tmp_path) is None
