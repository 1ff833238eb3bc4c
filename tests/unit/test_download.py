"""What a source's location means, and what becomes of it: pieces, and the causes they are made from."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.config.recipe import Source
from kit.corpus import download, jsonl, plaintext
from kit.corpus.bad_input import BadInput
from kit.corpus.raw import sources
from kit.errors import ConfigError, InputError
from kit.store import manifest
from kit.store.paths import MANIFEST
from kit.store.units import Unit, census, make_units
from tests.conftest import units_of
from tests.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Workdir

BODY = b"".join(f"行 {number}\n\n".encode() for number in range(2_000))
DATE = "jawiki-20220701"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that stands for those of the published texts as well, and is not waited for."""
    with serving() as state:
        state.body = BODY
        address = f"http://127.0.0.1:{state.port}/pub"
        monkeypatch.setattr(sources, "_CC100", address + "/{language}.txt.xz")
        monkeypatch.setattr(sources, "_WIKIMEDIA", address + "/{wiki}-{date}-{file}")
        yield state


def unit(workdir: Workdir, name: str, *overrides: str) -> Unit:
    recipe = workdir.recipe(*overrides)
    return next(unit for unit in units_of(download, recipe) if unit.name == name)


def web(workdir: Workdir, location: object, *overrides: str) -> Unit:
    return unit(workdir, "web", f"corpus.sources.web.location={location}", *overrides)


def pieces(made: Unit) -> list[dict[str, Any]]:
    make_units("download", [made])
    assert made.state(verify=True) == "done"
    found: list[dict[str, Any]] = manifest.read(made.folder, "jobs.download")["pieces"]
    return found


def documents(made: Unit) -> list[list[str]]:
    read = {"plaintext": plaintext.documents, "jsonl": jsonl.documents}
    return [text for piece in pieces(made) for text in read[piece["kind"]](piece, BadInput("stop"))]


def test_a_folder_and_a_pattern_are_their_files_in_sorted_order(workdir: Workdir) -> None:
    folder = workdir.folder / "texts"
    for name in ("b/c.txt", "a.txt", ".hidden", "b/.git/x.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n\nend\n", encoding="utf-8")
    (folder / "b" / "a.gz").write_bytes(gzip.compress(b"b/a.gz\n"))
    every = [["a.txt"], ["end"], ["b/a.gz"], ["b/c.txt"], ["end"]]
    assert documents(web(workdir, folder)) == every
    assert documents(web(workdir, folder / "**" / "*.*")) == every
    assert documents(web(workdir, folder / "*.txt")) == every[:2]
    made = web(workdir, folder, "corpus.unit_mb=0.000001")
    assert [piece["name"] for piece in pieces(made)] == [f"web-{n:05d}" for n in range(5)]


@pytest.mark.parametrize("name", ["b.jsonl", "b/c.NDJSON.gz", "b.json.zst"])
def test_json_lines_in_a_folder_of_plain_text_are_refused_by_name(
    workdir: Workdir, name: str
) -> None:
    folder = workdir.folder / "texts"
    for path in (folder / "a.txt", folder / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "a"}\n', encoding="utf-8")
    for location in (folder, folder / "**" / "*"):
        with pytest.raises(InputError, match=r"looks like JSON lines, .* kind jsonl") as caught:
            web(workdir, location)
        assert f"location={location}: {folder / name} looks like" in str(caught.value)
    assert len(pieces(web(workdir, folder / "a.txt"))) == 1


def test_a_file_that_is_named_itself_is_plain_text_if_you_say_so(workdir: Workdir) -> None:
    path = workdir.folder / "a.json"
    path.write_text("[1,\n2]\n", encoding="utf-8")
    assert documents(web(workdir, path)) == [["[1,", "2]"]]


def test_own_json_lines_are_a_source(workdir: Workdir) -> None:
    (workdir.folder / "a.jsonl.gz").write_bytes(gzip.compress('{"本文": "あ\\n\\nい"}\n'.encode()))
    made = web(
        workdir,
        workdir.folder / "*.jsonl.gz",
        "corpus.sources.web.kind=jsonl",
        "corpus.sources.web.text_key=本文",
    )
    assert documents(made) == [["あ", "い"]]


def test_a_fetched_source_becomes_a_unit_that_is_done(workdir: Workdir, server: Server) -> None:
    made = web(
        workdir, server.url(), f"corpus.sources.web.sha256={hashlib.sha256(BODY).hexdigest()}"
    )
    assert len(documents(made)) == 2_000
    assert make_units("download", [made]) == 0
    assert len(server.asked) == 1


def test_a_file_of_another_sha256_is_refused_and_fetched_anew(
    workdir: Workdir, server: Server
) -> None:
    made = web(
        workdir, server.url(), f"corpus.sources.web.sha256={hashlib.sha256(BODY).hexdigest()}"
    )
    server.body = BODY.replace("行 7\n".encode(), "行 8\n".encode(), 1)
    with pytest.raises(
        InputError, match=r"SHA-256 is [0-9a-f]{64}, not that of corpus\.sources\.web"
    ):
        make_units("download", [made])
    assert made.state() == "missing"
    assert not (made.folder / MANIFEST).exists()
    server.body = BODY
    make_units("download", [made])
    assert made.state(verify=True) == "done"


def test_a_local_file_of_another_checksum_is_refused_and_stays(workdir: Workdir) -> None:
    made = web(workdir, workdir.web, f"corpus.sources.web.sha1={'0' * 40}")
    with pytest.raises(
        InputError, match=r"web\.txt: its SHA-1 is [0-9a-f]{40}, not that of corpus\.sources\.web"
    ):
        make_units("download", [made])
    assert workdir.web.is_file()
    right = hashlib.sha1(workdir.web.read_bytes(), usedforsecurity=False).hexdigest()
    assert pieces(web(workdir, workdir.web, f"corpus.sources.web.sha1={right}"))


def test_a_checksum_of_several_files_is_refused(workdir: Workdir) -> None:
    with pytest.raises(InputError, match="a checksum belongs to one file, but these are"):
        web(workdir, workdir.folder / "*.*", f"corpus.sources.web.sha1={'0' * 40}")


def test_cc100_is_fetched_by_its_name(workdir: Workdir, server: Server) -> None:
    server.files = {"ja.txt.xz": lzma.compress(BODY)}
    assert len(documents(web(workdir, "cc100-ja"))) == 2_000
    assert server.names == ["ja.txt.xz"]


@pytest.fixture
def dump(server: Server, streams: list[bytes]) -> Server:
    """A server with a dated dump, its index and its checksums."""
    server.missing = {"none"}
    index = f"{len(streams[0])}:1:a\n".encode()
    server.files = {
        f"{DATE}-pages-articles-multistream.xml.bz2": b"".join(streams),
        f"{DATE}-pages-articles-multistream-index.txt.bz2": bz2.compress(index),
    }
    server.files[f"{DATE}-sha1sums.txt"] = "".join(
        f"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}  {name}\n"
        for name, body in server.files.items()
    ).encode()
    return server


def test_a_dump_is_fetched_by_its_name_with_index_and_checksums(
    workdir: Workdir, dump: Server
) -> None:
    made = unit(workdir, "jawiki", f"corpus.sources.jawiki.location={DATE}")
    found = pieces(made)
    assert {piece["title"] for piece in found} == {"line"}
    assert {Path(piece["path"]).name for piece in found} == {
        f"{DATE}-pages-articles-multistream.xml.bz2"
    }
    assert set(dump.names) == set(dump.files)
    assert len(dump.names) == 3
    assert manifest.read(made.folder, "")["checked"] == {
        "sha1": dump.files[f"{DATE}-sha1sums.txt"].decode()[:40]
    }


def test_a_dump_that_is_not_the_published_one_is_refused(workdir: Workdir, dump: Server) -> None:
    dump.files[f"{DATE}-pages-articles-multistream.xml.bz2"] += b"!"
    made = unit(workdir, "jawiki", f"corpus.sources.jawiki.location={DATE}")
    with pytest.raises(
        InputError, match=r"its SHA-1 is [0-9a-f]{40}, not that of http.*sha1sums\.txt"
    ):
        make_units("download", [made])


@pytest.mark.parametrize("lacks", ["sha1sums.txt", "pages-articles-multistream-index.txt.bz2"])
def test_a_dump_may_lack_its_index_or_checksums(
    workdir: Workdir, dump: Server, lacks: str, capfd: pytest.CaptureFixture[str]
) -> None:
    dump.missing = {f"{DATE}-{lacks}"}
    assert pieces(unit(workdir, "jawiki", f"corpus.sources.jawiki.location={DATE}"))
    said = capfd.readouterr().err
    assert (
        "not published" in said
        if lacks == "sha1sums.txt"
        else "no index, scanning the dump" in said
    )


def test_a_list_without_the_dump_is_not_kept(workdir: Workdir, dump: Server) -> None:
    sums = f"{DATE}-sha1sums.txt"
    dump.files[sums] = b"of a dump that is still being written\n"
    made = unit(workdir, "jawiki", f"corpus.sources.jawiki.location={DATE}")
    assert manifest.read(pieces(made) and made.folder, "")["checked"] == {}
    assert not list(made.folder.rglob(sums))


def test_a_dump_that_left_the_main_site_comes_from_a_mirror_with_its_checksums(
    workdir: Workdir, dump: Server
) -> None:
    with serving() as mirror:
        mirror.files, dump.missing = dump.files, set(dump.files)
        url = mirror.url(f"{DATE}-pages-articles-multistream.xml.bz2")
        mirrors = f"corpus.sources.jawiki.mirrors=[{url}]"
        made = unit(workdir, "jawiki", f"corpus.sources.jawiki.location={DATE}", mirrors)
        assert pieces(made)
        assert set(mirror.names) == set(dump.files)
        assert manifest.read(made.folder, "")["checked"]
    assert unit(workdir, "jawiki", f"corpus.sources.jawiki.location={DATE}").state() == "done"


def test_a_folder_of_downloads_serves_several_workspaces(workdir: Workdir, server: Server) -> None:
    shared = f"corpus.downloads={workdir.folder / 'shared'}"
    first = pieces(web(workdir, server.url(), shared))
    again = web(workdir, server.url(), shared, f"workspace={workdir.folder / 'other'}")
    assert again.state() == "missing"
    assert pieces(again) == first
    assert len(server.asked) == 1
    assert Path(first[0]["path"]).parent.parent == workdir.folder / "shared"
    assert web(workdir, server.url()).state() == "done"  # where it lies decides nothing


def test_a_fetched_file_that_is_gone_is_broken_and_fetched_again(
    workdir: Workdir, server: Server
) -> None:
    made = web(workdir, server.url())
    path = Path(pieces(made)[0]["path"])
    path.unlink()
    assert made.state() == "broken"
    assert len(documents(made)) == 2_000
    os.utime(path, ns=(0, 7))
    assert made.state() == "broken"
    assert len(documents(made)) == 2_000
    assert len(server.asked) == 2


def test_of_a_fetched_file_that_was_made_into_parts_the_parts_are_enough(
    workdir: Workdir, server: Server
) -> None:
    server.files = {"a.gz": gzip.compress(BODY)}
    made = web(workdir, server.url("a.gz"), "corpus.unit_mb=0.005")
    assert len(pieces(made)) == 4
    for path in made.folder.glob("*/a.gz"):
        path.unlink()
    assert len(documents(made)) == 2_000
    assert len(server.asked) == 1
    part = made.folder / "part-00002.txt.zst"
    raw = bytearray(part.read_bytes())
    raw[-1] ^= 0xFF
    part.write_bytes(bytes(raw))
    assert (made.state(), made.state(verify=True)) == ("done", "broken")


def test_a_source_of_another_size_or_time_is_stale(workdir: Workdir) -> None:
    units = units_of(download, workdir.recipe())
    make_units("download", units)
    assert census(units_of(download, workdir.recipe()))["done"] == 2
    workdir.web.write_text(workdir.web.read_text(encoding="utf-8") + "\n\n追加\n", encoding="utf-8")
    assert census(units_of(download, workdir.recipe())) == {
        "done": 1, "missing": 0, "stale": 1, "broken": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "state"),
    [
        ("corpus.sources.jawiki.title=drop", "stale"),
        ("corpus.sources.jawiki.index=/nowhere", None),
        ("corpus.tasks=9", "done"),
        ("corpus.unit_mb=7", "stale"),
    ],
)
def test_what_decides_the_pieces_is_a_cause(
    workdir: Workdir, override: str, state: str | None
) -> None:
    make_units("download", [unit(workdir, "jawiki")])
    if state is None:
        with pytest.raises(InputError, match=r"index=/nowhere: no such file"):
            unit(workdir, "jawiki", override)
    else:
        assert unit(workdir, "jawiki", override).state() == state


@pytest.mark.parametrize("what", [{"text_key": "a"}, {"mirrors": ["https://example.org/a.bz2"]}])
def test_what_decides_nothing_is_no_cause(workdir: Workdir, what: dict[str, object]) -> None:
    make_units("download", [unit(workdir, "jawiki")])
    recipe = workdir.recipe()
    source = recipe.corpus.sources["jawiki"].model_copy(update=what)
    elsewhere = {"sources": {"jawiki": source}, "downloads": "/nowhere"}
    changed = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update=elsewhere)})
    (made,) = units_of(download, changed)
    assert made.state() == "done"


def test_an_index_at_hand_is_a_cause(workdir: Workdir) -> None:
    make_units("download", [unit(workdir, "jawiki")])
    (workdir.folder / "index.bz2").write_bytes(b"")
    with_index = unit(
        workdir, "jawiki", f"corpus.sources.jawiki.index={workdir.folder / 'index.bz2'}"
    )
    assert with_index.state() == "stale"


def test_a_missing_source_is_named(workdir: Workdir) -> None:
    workdir.dump.unlink()
    with pytest.raises(InputError, match=r"corpus\.sources\.jawiki\.location=.*no such file"):
        units_of(download, workdir.recipe())
    workdir.dump.mkdir()
    with pytest.raises(InputError, match=r"no file in this folder; give a path, a folder"):
        units_of(download, workdir.recipe())


def test_a_source_that_cannot_be_looked_at_is_named(workdir: Workdir) -> None:
    too_long = "a" * 300
    with pytest.raises(InputError, match=r"corpus\.sources\.web\.location=.*: File name too long"):
        web(workdir, workdir.folder / too_long)
    with pytest.raises(InputError, match=r"jawiki\.index=.*: File name too long; fix that"):
        unit(workdir, "jawiki", f"corpus.sources.jawiki.index={workdir.folder / too_long}")


def test_a_file_name_that_is_not_utf8_is_refused(workdir: Workdir) -> None:
    folder = workdir.folder / "texts"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/a\xff.txt")).write_text("a")
    with pytest.raises(InputError, match=r"texts/a\\udcff\.txt' is not UTF-8; rename it"):
        web(workdir, folder)


def test_a_fetched_file_out_of_reach_is_broken(workdir: Workdir, server: Server) -> None:
    made = web(workdir, server.url(), f"corpus.downloads={workdir.folder / 'shared'}")
    (piece, *_) = pieces(made)
    folder = Path(piece["path"]).parent
    folder.rename(f"{folder}-away")
    folder.write_text("a file")
    assert made.state() == "broken"


def test_a_recipe_keeps_names_and_urls_and_makes_patterns_absolute(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)
    made = workdir.recipe(
        "corpus.sources.web.location=texts/*.txt",
        f"corpus.sources.jawiki.location={DATE}",
        "corpus.sources.jawiki.index=index.bz2",
        "corpus.downloads=shared",
    ).corpus
    assert made.sources["web"].location == str(workdir.folder / "texts/*.txt")
    assert made.sources["jawiki"].location == DATE
    assert made.sources["jawiki"].index == str(workdir.folder / "index.bz2")
    assert made.downloads == str(workdir.folder / "shared")
    url = "https://example.org/i.bz2"
    kept = workdir.recipe(f"corpus.sources.jawiki.index={url}").corpus.sources["jawiki"]
    assert kept.index == url
    assert workdir.recipe("corpus.sources.web.location=./cc100-ja").corpus.sources[
        "web"
    ].location == (str(workdir.folder / "cc100-ja"))


def test_a_published_text_has_its_kind(workdir: Workdir) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.sources\.web\.kind='plaintext': jawiki-2022"):
        workdir.recipe(f"corpus.sources.web.location={DATE}")
    with pytest.raises(
        ConfigError, match="cc100-ja is a text of kind plaintext; write kind: plain"
    ):
        workdir.recipe("corpus.sources.jawiki.location=cc100-ja")


def test_the_published_texts_are_where_they_are() -> None:
    dump = sources.remote(Source(kind="wikipedia", location="zh_min_nanwiki-20220701"))
    assert dump is not None
    base = "https://dumps.wikimedia.org/zh_min_nanwiki/20220701/zh_min_nanwiki-20220701-"
    assert dump.urls == (f"{base}pages-articles-multistream.xml.bz2",)
    assert dump.index == (f"{base}pages-articles-multistream-index.txt.bz2",)
    assert dump.sums == (f"{base}sha1sums.txt",)
    text = sources.remote(Source(kind="plaintext", location="cc100-zh-Hans"))
    assert text == sources.Remote(("https://data.statmt.org/cc-100/zh-Hans.txt.xz",))
