"""Files in many clothes: what is read of them, and what is refused and why."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from kit.corpus import documents, download
from kit.corpus.bad_input import BadInput
from kit.corpus.raw import magic, sources
from kit.errors import DamagedFile, InputError
from kit.store import listing, manifest
from kit.store.units import make_units
from tests.conftest import units_of
from tests.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.conftest import Workdir

TEXTS = [f"{number}番の文書である。" for number in range(40)]


def read(workdir: Workdir, kind: str, location: object, *overrides: str) -> list[list[str]]:
    """The documents of a source, cut into small pieces and put together again."""
    given = f"corpus.sources={{web: {{kind: {kind}, location: {location}}}}}"
    (unit,) = units_of(download, workdir.recipe(given, "corpus.unit_mb=0.0003", *overrides))
    make_units("download", [unit])
    assert unit.state(verify=True) == "done"
    pieces: Any = manifest.read(unit.folder, "jobs.download")["pieces"]
    return [text for piece in pieces for text in documents.read(piece, BadInput("stop"), "default")]


def json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def archive(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            out.addfile(header, io.BytesIO(content))
    return path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


# Folders


def test_a_linked_folder_and_a_linked_file_are_read_as_a_pattern_reads_them(
    workdir: Workdir,
) -> None:
    real, corpus = workdir.folder / "real", workdir.folder / "corpus"
    for path, text in (
        (real / "1.jsonl", "一"),
        (real / "2.jsonl", "二"),
        (corpus / "b.jsonl", "三"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(json_lines([text]))
    (corpus / "a").symlink_to(real)
    (workdir.folder / "c.jsonl").write_bytes(json_lines(["四"]))
    (corpus / "c.jsonl").symlink_to(workdir.folder / "c.jsonl")
    every = [["一"], ["二"], ["三"], ["四"]]
    assert read(workdir, "jsonl", corpus) == every
    assert read(workdir, "jsonl", corpus / "**" / "*.jsonl") == every


@pytest.mark.parametrize("pattern", ["", "**/*.txt"])
def test_a_loop_of_links_and_a_file_named_twice_are_refused(workdir: Workdir, pattern: str) -> None:
    folder = workdir.folder / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("一\n")
    (folder / "loop").symlink_to(folder)
    with pytest.raises(InputError, match=r"location=.*texts.* are the same; remove the link"):
        read(workdir, "plaintext", folder / pattern)
    (folder / "loop").unlink()
    (folder / "b.txt").symlink_to(folder / "a.txt")
    with pytest.raises(InputError, match=r"a\.txt and .*b\.txt are the same"):
        read(workdir, "plaintext", folder / pattern)
    (folder / "b.txt").unlink()
    os.link(folder / "a.txt", folder / "b.txt")  # a copy that saves space
    assert read(workdir, "plaintext", folder / pattern) == [["一"], ["一"]]


def test_a_link_that_leads_nowhere_and_a_closed_folder_are_errors(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workdir.folder / "texts"
    (folder / "closed").mkdir(parents=True)
    (folder / "a.txt").symlink_to(folder / "gone.txt")
    with pytest.raises(InputError, match=r"a\.txt: No such file or directory; fix that"):
        read(workdir, "plaintext", folder)
    (folder / "a.txt").unlink()
    (folder / "a.txt").write_text("一\n")
    scandir = os.scandir

    def refusing(path: str) -> Any:  # root may read everything
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", refusing)
    with pytest.raises(InputError, match=r"closed: Permission denied; fix that"):
        read(workdir, "plaintext", folder)


def test_of_a_dataset_folder_only_files_of_its_kind_are_read(
    workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workdir.folder / "dataset"
    (folder / "data").mkdir(parents=True)
    for name in ("README.md", "dataset_infos.json"):
        (folder / name).write_text("{}")
    (folder / "data" / "train-00000.jsonl").write_bytes(json_lines(TEXTS[:2]))
    assert read(workdir, "jsonl", folder) == [[text] for text in TEXTS[:2]]
    assert "2 files left out, not of kind jsonl" in capsys.readouterr().err
    table = pyarrow.table({"text": TEXTS[2:4]})
    pyarrow.parquet.write_table(table, folder / "data" / "train-00000.parquet")
    assert read(workdir, "parquet", folder) == [[text] for text in TEXTS[2:4]]
    (folder / "data" / "train-00000.jsonl").unlink()
    assert sources.left_out(workdir.recipe().corpus.sources["web"]) == []


# Parquet


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary", "dictionary"])
def test_a_parquet_file_gives_each_row_once_wherever_it_is_cut(workdir: Workdir, kind: str) -> None:
    types = {"dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string())}
    column = pyarrow.array([text.encode() if kind == "binary" else text for text in TEXTS])
    column = column.cast(types.get(kind) or getattr(pyarrow, kind)())
    table = pyarrow.table({"url": ["u"] * len(TEXTS), "本文": column})
    path = workdir.folder / "a.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    key = "corpus.sources.web.text_key=本文"
    assert read(workdir, "parquet", path, key) == [[text] for text in TEXTS]
    small = read(
        workdir, "parquet", path, key, "corpus.unit_mb=100", f"workspace={workdir.folder / 'other'}"
    )
    assert small == [[text] for text in TEXTS]


def test_rows_without_text_are_counted_and_long_texts_keep_their_lines(workdir: Workdir) -> None:
    column = pyarrow.array([b"\xe4\xb8\x80\n\n\xe4\xba\x8c", None, b"\xff", b"a\0", b" \n"])
    path = workdir.folder / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": column.cast(pyarrow.binary())}), path)
    piece: Any = {
        "path": str(path), "start": 0, "end": path.stat().st_size, "size": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns, "kind": "parquet", "text_key": "text",
    }  # fmt: skip
    skipping = BadInput("skip")
    assert [*documents.read(piece, skipping, "default")] == [["一", "二"]]
    assert skipping.counts == {"no_text": 1, "not_utf8": 1, "nul": 1}
    with pytest.raises(InputError, match=r"a\.parquet, row 2: 'text' is null"):
        [*documents.read(piece, BadInput("stop"), "default")]


def test_a_parquet_file_without_the_column_or_damaged_is_refused(workdir: Workdir) -> None:
    path = workdir.folder / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": [1], "body": ["一"]}), path)
    with pytest.raises(
        InputError, match=r"no column 'text' \(columns: 'n', 'body'\); set text_key"
    ):
        read(workdir, "parquet", path)
    with pytest.raises(InputError, match=r"column 'n' holds int64, not text"):
        read(workdir, "parquet", path, "corpus.sources.web.text_key=n")
    raw = path.read_bytes()
    path.write_bytes(raw[:-10])
    with pytest.raises(DamagedFile, match=r"a\.parquet: damaged, truncated, or no parquet file"):
        read(workdir, "parquet", path)
    path.write_bytes(json_lines(TEXTS))
    with pytest.raises(InputError, match=r"not parquet \(begins with b'\{\"text"):
        read(workdir, "parquet", path)


# Archives


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.zst"])
def test_an_archive_gives_the_texts_of_its_files(workdir: Workdir, name: str) -> None:
    members = {
        "b/1.jsonl": b"\xef\xbb\xbf" + json_lines(TEXTS[:20])[:-1],  # without a line end
        "b/._1.jsonl": b"\0\1",
        "README.md": b"# no JSON",
        "b/2.jsonl": json_lines(TEXTS[20:]),
    }
    plain = archive(workdir.folder / "plain.tar", members).read_bytes()
    pack = {".gz": gzip.compress, ".tgz": gzip.compress, ".xz": lzma.compress,
            ".zst": zstandard.compress}.get(Path(name).suffix, bytes)  # fmt: skip
    (workdir.folder / name).write_bytes(pack(plain))
    assert read(workdir, "jsonl", workdir.folder / name) == [[text] for text in TEXTS]


def test_each_text_of_an_archive_is_a_document_of_its_own(workdir: Workdir) -> None:
    path = archive(workdir.folder / "a.tar", {"1.txt": "一".encode(), "2.txt": "二\n".encode()})
    assert read(workdir, "plaintext", path) == [["一"], ["二"]]
    path = archive(workdir.folder / "b.tar", {"1.jsonl": json_lines(TEXTS)})
    with pytest.raises(InputError, match=r"1\.jsonl looks like JSON lines"):
        read(workdir, "plaintext", path)
    path = archive(workdir.folder / "c.tar", {"1.jsonl.gz": gzip.compress(json_lines(TEXTS))})
    with pytest.raises(InputError, match=r"1\.jsonl\.gz in it is compressed; unpack the archive"):
        read(workdir, "jsonl", path)
    path = archive(workdir.folder / "d.tar", {"README.md": b"#"})
    with pytest.raises(InputError, match=r"no file of kind jsonl in it"):
        read(workdir, "jsonl", path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "cut at a header", "header", "more"])
def test_an_archive_that_is_damaged_anywhere_loses_nothing_in_silence(
    workdir: Workdir, packed: bool, damage: str
) -> None:
    members = {f"{number}.txt": text.encode() for number, text in enumerate(TEXTS)}
    raw = archive(workdir.folder / "a.tar", members).read_bytes()
    half = len(TEXTS) // 2 * 1024  # each member is a header and a block
    raw = {
        "cut": raw[: half + 700],
        "cut at a header": raw[:half],
        "header": raw[:half] + b"x" + raw[half + 1 :],
        "more": raw + raw,
    }[damage]
    path = workdir.folder / ("a.tar.gz" if packed else "a.tar")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DamagedFile, match=r"a\.tar.*: damaged or truncated near byte \d+"):
        read(workdir, "plaintext", path)


# Other formats


CLOTHES = {
    "a.jsonl": (gzip.compress(b"{}"), r"compressed as \.gz, .*; rename it to a\.jsonl\.gz"),
    "b.jsonl": (b"PK\x03\x04rest", r"a zip archive, which holds no lines of text; unzip it"),
    "c.jsonl": (b"PAR1rest", r"parquet, .*; give it a source of kind parquet"),
    "d.jsonl": (b"ARROW1\0\0rest", r"an Arrow file, .*; write it as parquet"),
    "e.jsonl": (b"\xff\xff\xff\xff\x10\0\0\0", r"an Arrow stream, as save_to_disk"),
    "f.jsonl": (b"version https://git-lfs.github.com/spec/v1\n", r"git lfs pull"),
    "g.jsonl.gz": (b"{}\n", r"not a \.gz file, .* \(begins with b'\{\}\\n'\)"),
    "h.jsonl.xz": (gzip.compress(b"{}"), r"not a \.xz file, .* \(compressed as \.gz\)"),
    "i.jsonl.gz": (b"<!DOCTYPE html><title>Login</title>", r"\(a web page, perhaps a login page\)"),
}


@pytest.mark.parametrize("name", CLOTHES)
def test_a_file_in_other_clothes_is_told_by_its_first_bytes(workdir: Workdir, name: str) -> None:
    content, said = CLOTHES[name]
    (workdir.folder / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read(workdir, "jsonl", workdir.folder / name)
    assert "\n" not in str(caught.value)
    assert not [*workdir.workspace.root.glob("raw/*/part-*")]


def test_a_tar_archive_named_as_text_is_told(workdir: Workdir) -> None:
    archive(workdir.folder / "a.tar", {"1.txt": b"a"}).rename(workdir.folder / "a.txt")
    with pytest.raises(InputError, match=r"a tar archive, .*; rename it to a\.txt\.tar"):
        read(workdir, "plaintext", workdir.folder / "a.txt")


def test_a_zst_file_may_begin_with_a_frame_that_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(
        b"\x50\x2a\x4d\x18\x04\0\0\0rest" + zstandard.compress(b"a")
    )  # as pzstd writes
    assert magic.mismatch(path, path.name) is None


@pytest.mark.parametrize("name", ["a.txt.xz", "a.txt"])
def test_a_login_page_is_put_aside_and_the_file_fetched_when_it_is_there(
    workdir: Workdir, server: Server, name: str
) -> None:
    good = "文書である。\n".encode()
    server.files[name] = b"\n<html><body>Log in</body></html>"
    with pytest.raises(InputError, match=rf"{name}: .*web page.*kept as .*{name}\.wrong"):
        read(workdir, "plaintext", server.url(name))
    server.files[name] = lzma.compress(good) if name.endswith(".xz") else good
    assert read(workdir, "plaintext", server.url(name)) == [["文書である。"]]


def test_a_login_page_that_an_earlier_version_kept_is_fetched_again(
    workdir: Workdir, server: Server
) -> None:
    from kit.corpus.raw.fetch import download_path, fetch

    path = download_path(server.url("a.txt.xz"), workdir.folder)
    path.parent.mkdir()
    path.write_bytes(b"<!doctype html>")
    server.files["a.txt.xz"] = lzma.compress(b"a\n")
    assert fetch([server.url("a.txt.xz")], path).read_bytes() == server.files["a.txt.xz"]


def test_a_fetched_file_that_is_damaged_is_put_aside_and_fetched_again(
    workdir: Workdir, server: Server
) -> None:
    whole = bz2.compress("文書である。\n".encode() * 1000)
    server.files["a.txt.bz2"] = whole[:-20]
    with pytest.raises(DamagedFile, match=r"truncated near .* kept as .*a\.txt\.bz2\.wrong"):
        read(workdir, "plaintext", server.url("a.txt.bz2"))
    server.files["a.txt.bz2"] = whole
    assert len(read(workdir, "plaintext", server.url("a.txt.bz2"))[0]) == 1000
