"""Documents left out by URL, id or hash: those that a file names, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.config.recipe import Corpus
from kit.corpus import exclusion
from kit.corpus.exclusion import Exclusion
from kit.corpus.identity import Identified, Identity
from kit.corpus.steps import Steps
from kit.data import removal, shards, url_lists
from kit.errors import InputError
from kit.store.files import text_hash

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

SOURCE = {"kind": "jsonl", "location": "a.jsonl", "url_key": "url", "id_key": "id"}


def corpus(**keys: object) -> Corpus:
    return Corpus.model_validate({"sources": {"web": SOURCE, "news": SOURCE}, **keys})


def listed(folder: Path, content: str) -> url_lists.UrlList:
    path = folder / "list.txt"
    path.write_text(content, encoding="utf-8")
    return url_lists.read("bad", str(path))


HOLDS = [
    ("example.org", "https://example.org/", True),
    ("example.org", "http://WWW.Example.ORG.:8080/a?b", True),
    ("example.org", "https://user@a.b.example.org", True),
    ("example.org", "https://notexample.org/", False),
    ("example.org", "https://example.org.evil.example/", False),
    ("example.org", "https://other.example/example.org", False),
    ("www.example.org", "https://example.org/", False),
    ("日本.example", "https://xn--wgv71a.example/a", True),
    ("192.0.2.1", "http://192.0.2.1/a", True),
    ("https://example.org/a/", "http://example.org/a", True),
    ("example.org/a", "http://example.org/a/b", True),
    ("example.org/a", "http://sub.example.org/a?b=1", True),
    ("example.org/a", "http://example.org/ab", False),
    ("example.org/a", "http://example.org/A", False),
    ("example.org/a", "http://example.org/", False),
    ("example.org/a?b=1", "http://example.org/a?b=1#c", True),
    ("example.org/a?b=1", "http://example.org/a?b=2", False),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "url", "holds"), HOLDS)
def test_a_domain_stands_for_its_subdomains_and_a_url_for_those_below_it(
    tmp_path: Path, entry: str, url: str, holds: bool
) -> None:
    found = listed(tmp_path, f"# a comment\n\nother.invalid\r\n{entry}\r\nlast.invalid")
    assert found.holds(url) is holds


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing in it"), (b"# a\n\n", "nothing in it"), (b"\xff", "not UTF-8"),
        (b"a.example\n0.0.0.0 b.example\n", "line 2: '0.0.0.0 b.example' is neither a domain nor"),
        (b"http:///a\n", "line 1: "), (None, "No such file"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_of_urls_is_refused_in_a_line(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^corpus\.filters\.urls\.bad\.file=.*{said}") as refused:
        url_lists.read("bad", str(path))
    assert "\n" not in str(refused.value)


DOCUMENTS = [
    Identified(["一。"], Identity("https://a.example/%E4%B8%80", "1")),
    Identified(["二。"], Identity("https://b.example/2", "2")),
    Identified(["三。"], Identity(None, "3")),
    ["四。"],
    Identified(["五。"], Identity("https://www.bad.example/", None)),
    Identified(["六。"], Identity("https://a.example/6", "6")),
]
FATES = [
    ("https://a.example/一", [0]), ("https://a.example/%E4%B8%80", [0]), ("https://a.example/", []),
    ("web:2", [1]), ("news:2", []), ("web:3", [2]), (f"{text_hash('四。'):016x}", [3]),
    (f"# web:1\n\nweb:1\nweb:6\n  {text_hash('二。'):016x}  ", [0, 1, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "numbers"), FATES)
def test_a_line_takes_out_the_document_that_it_names(
    tmp_path: Path, lines: str, numbers: list[int]
) -> None:
    (tmp_path / "out.txt").write_text(lines, encoding="utf-8")
    recipe = corpus(remove=str(tmp_path / "out.txt"))
    steps = Steps(recipe, exclusion=Exclusion(recipe, "web"))
    made = steps.prepare(DOCUMENTS)
    assert [n for n, document in enumerate(made) if document.left_out == "removed"] == numbers
    assert all(document.lines for document in made if document.left_out is None)
    assert steps.counts["normalised"]["documents"] == len(DOCUMENTS) - len(numbers)


def test_what_is_removed_does_not_shift_the_numbers_of_duplicates(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("web:1\nweb:3\n", encoding="utf-8")
    (tmp_path / "bad.txt").write_text("bad.example\n", encoding="utf-8")
    recipe = corpus(
        remove=str(tmp_path / "out.txt"),
        filters={"urls": {"bad": {"file": str(tmp_path / "bad.txt")}}},
    )
    steps = Steps(recipe, dict.fromkeys((0, 3, 5), "duplicates"), Exclusion(recipe, "web"))
    fates = [document.left_out for document in steps.prepare(DOCUMENTS)]
    assert fates == ["removed", None, "removed", "duplicates", "urls.bad", "duplicates"]


def test_the_report_names_the_lines_that_match_no_document(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("web:1\nnews:9\nhttps://no.example/\n", encoding="utf-8")
    recipe = corpus(remove=str(tmp_path / "out.txt"))
    manifests = []
    for source in ("web", "news"):
        excluded = Exclusion(recipe, source)
        Steps(recipe, exclusion=excluded).prepare(DOCUMENTS)
        manifests.append(excluded.facts())
    found = exclusion.summary(type("Recipe", (), {"corpus": recipe})(), manifests)
    assert "Documents of web: 6, with a URL 4, with an id 4." in found
    assert "3, of which 2 match no document: news:9, https://no.example/." in found


def test_without_such_keys_nothing_is_looked_up_or_recorded() -> None:
    excluded = Exclusion(corpus(), "web")
    assert (excluded.keys, excluded.reason(DOCUMENTS[0], 1), excluded.facts()) == (None, None, {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no line in it"), (b"\xff", "byte 1 is not UTF-8"), (None, "No such file"),
        (b"web:1\n12\n", "line 2: '12' is neither a URL, nor SOURCE:ID .*web, news"),
        (b"blog:1\n", "line 1: 'blog:1' is neither"), (b"web:\n", "line 1: "),
    ],
)  # fmt: skip
def test_a_file_that_names_no_documents_is_refused_in_a_line(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "out.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^corpus\.remove=.*{said}") as refused:
        removal.read(corpus(remove=str(path)))
    assert "\n" not in str(refused.value)


def test_the_files_decide_the_shards_by_their_content_and_the_keys_only_beside_them(
    workdir: Workdir,
) -> None:
    (workdir.folder / "web.jsonl").write_text('{"text": "一", "id": 1}\n')
    web = f"kind: jsonl, location: {workdir.folder / 'web.jsonl'}"
    workdir.make(workdir.recipe(f"corpus.sources={{web: {{{web}}}}}"), "download")

    def causes(keys: str = "", **files: str) -> Any:
        given = [f"corpus.sources={{web: {{{web}{keys}}}}}"]
        for key, content in files.items():
            path = workdir.folder / f"{key}-{text_hash(content)}"
            path.write_text(content)
            given.append(f"corpus.{'remove' if key < 's' else 'filters.urls.bad.file'}={path}")
        return shards.expected(workdir.recipe(*given))[0].causes

    id_key, url_key = ", id_key: id", ", url_key: url"
    assert causes() == causes(id_key) == causes(url_key + ", license: CC0-1.0")
    for key in ("a", "z"):
        one = causes(url_key, **{key: "web:1\n"})
        assert one == causes(url_key, **{f"{key}b": "web:1\n"})
        assert one != causes(url_key, **{key: "web:2\n"})
        assert one != causes(url_key + id_key, **{key: "web:1\n"})


def test_the_files_are_relative_to_the_file_of_the_recipe(workdir: Workdir) -> None:
    text = workdir.recipe_file.read_text(encoding="utf-8")
    given = "corpus:\n  remove: out.txt\n  filters: {urls: {bad: {file: lists/bad.txt}}}\n"
    workdir.recipe_file.write_text(text.replace("corpus:\n", given, 1), encoding="utf-8")
    found, folder = workdir.recipe().corpus, workdir.recipe_file.resolve().parent
    assert found.remove == str(folder / "out.txt")
    assert found.filters.urls["bad"].file == str(folder / "lists" / "bad.txt")
