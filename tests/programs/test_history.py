"""The history of a document: every position in a shard leads back to the document that is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs import preprocess as command
from kit.corpus import history, report
from kit.data import shards
from kit.errors import ConfigError, InputError, StageError

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

ROWS = [
    {"text": text, "link": f"https://a.example/{number}", "n": number}
    for number, text in enumerate(
        ["短い。", *(f"{n}番目の　文書である。\r\n二文目。三文目です。" for n in range(1, 60))]
    )
]


def recipe_of(workdir: Workdir, *overrides: str) -> Recipe:
    """The recipe of some JSON lines, whose first document is left out."""
    path = workdir.folder / "news.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    news = f"{{kind: jsonl, location: {path}, url_key: link, id_key: n, license: CC-BY-4.0}}"
    recipe = workdir.recipe(
        f"corpus.sources={{news: {news}}}", "corpus.filters.length.min=10", *overrides
    )
    workdir.make(recipe, "preprocess")
    return recipe


def test_every_position_leads_to_the_document_that_is_there(workdir: Workdir) -> None:
    recipe = recipe_of(workdir)
    names = []
    for shard in shards.complete(recipe):
        for part in shards.PARTS:
            for number, words in enumerate(shards.read(shards.part_file(shard.folder, part))):
                found = history.read(recipe, shard.name, number, part)
                assert found.words == words
                row = ROWS[int((found.id or "").removeprefix("news:"))]
                assert (found.url, found.license) == (row["link"], "CC-BY-4.0")
                assert "\r\n".join(found.raw) == row["text"]
                assert [line.replace(" ", "") for line in found.normalised] == [
                    line.replace("\u3000", "") for line in found.raw
                ]
                assert "".join(found.sentences) == "".join(found.normalised)
                names.append(found.id)
    assert sorted(names) == sorted(f"news:{n}" for n in range(1, 60))


def test_articles_have_the_addresses_of_their_wiki_and_can_be_taken_out(workdir: Workdir) -> None:
    sources = f"corpus.sources={{jawiki: {{kind: wikipedia, location: {workdir.dump}}}}}"
    recipe = workdir.recipe(sources)
    workdir.make(recipe, "preprocess")
    places = [
        (shard.name, number, part)
        for shard in shards.complete(recipe)
        for part in shards.PARTS
        for number, _ in enumerate(shards.read(shards.part_file(shard.folder, part)))
    ]
    found = {h.raw[0]: h for h in (history.read(recipe, *place) for place in places)}
    assert found["霧浜県"].url == "https://example.org/wiki/%E9%9C%A7%E6%B5%9C%E7%9C%8C"
    assert {title: h.id for title, h in found.items()} == {
        "霧浜県": "jawiki:1", "灯野川": "jawiki:2", "駅伝競走": "jawiki:6"
    }  # fmt: skip
    named = ["https://example.org/wiki/霧浜県", found["駅伝競走"].hash, "jawiki:99"]
    (workdir.folder / "out.txt").write_text("\n".join(named), encoding="utf-8")
    taken = workdir.recipe(sources, f"corpus.remove={workdir.folder / 'out.txt'}")
    workdir.make(taken, "preprocess")
    table = (report.make(taken) / report.TABLE).read_text(encoding="utf-8")
    assert "| left out: removed | 2 |" in table
    assert "3, of which 1 match no document: jawiki:99." in table
    assert "県庁は霧浜市にある" not in table
    assert "灯野川" in table


def test_what_is_not_there_is_said_in_a_line(workdir: Workdir) -> None:
    recipe = recipe_of(workdir)
    name = shards.complete(recipe)[-1].name
    for number in (-1, 10**6):
        with pytest.raises(ConfigError, match=rf"document {number}: {name} has .*; give 0 to"):
            history.read(recipe, name, number)
    with pytest.raises(ConfigError, match=r"shard 'new-00000': .*did you mean news-00000"):
        history.read(recipe, "new-00000", 0)
    with pytest.raises(ConfigError, match=r"--part test: the parts are train and held-out"):
        history.read(recipe, name, 0, "test")
    other = recipe.corpus.model_copy(update={"held_out": 0.2})
    with pytest.raises(StageError, match=r"stale; run ekiden preprocess first"):
        history.read(recipe.model_copy(update={"corpus": other}), name, 0)
    with (workdir.folder / "news.jsonl").open("a") as out:
        out.write("\n")
    with pytest.raises(InputError, match=r"news\.jsonl: .*changed since ekiden download cut it"):
        history.read(recipe, name, 0)


def test_the_command_prints_it(workdir: Workdir) -> None:
    sources = f"corpus.sources={{web: {{kind: plaintext, location: {workdir.web}}}}}"
    workdir.make(workdir.recipe(sources), "preprocess")
    web = ["show", str(workdir.recipe_file), "web-00000", "0", sources]
    shown = CliRunner().invoke(command.app, web, catch_exceptions=False).stdout
    assert "source: web (plaintext), document 0 of " in shown
    assert "license: not known" in shown
    for step in ("raw", "normalised", "sentences", "words"):
        assert f"\n## {step}: " in shown
    found = CliRunner().invoke(command.app, [*web, "--json"], catch_exceptions=False).stdout
    assert json.loads(found)["hash"] in shown
