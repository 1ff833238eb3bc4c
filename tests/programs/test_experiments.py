"""The experiments from raw text to the table, with models so small that they learn nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kit.corpus import report
from kit.data import index, shards, tokens
from kit.release import evaluate
from kit.tokenizer import measure
from kit.training.language_model import LanguageModel
from tests.experiments import __main__ as command
from tests.experiments import results, training
from tests.experiments.variants import Size
from tests.relay import DEMO

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"tiny": Size(1, 16, 2, 2)}
WORDS = ["--data", str(DEMO.parent / "demo" / "web.txt"), "--only", "tokenizer", "--seeds", "2"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stages draw no pictures: these would cost more than all else here."""
    monkeypatch.setattr(measure, "plot", lambda measures, name, path: path.touch())
    monkeypatch.setattr(report, "_plot", lambda totals, path: path.touch())
    return tmp_path


def test_an_interrupted_experiment_continues_and_ends_with_the_same_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--folder", str(folder)]
    assert command.main([*words, "--json"], SIZES) == 0
    free, charged = json.loads(capsys.readouterr().out)
    assert (free["size"], free["seeds"], free["ours"]) == ("tiny", 2, charged["ours"])
    assert free["theirs"]["mean"] < charged["theirs"]["mean"]  # an article's drops white space
    file = folder / "results.jsonl"
    rows, lines = results.read(file), file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-3]) + lines[-3][:20])  # cut short in the third last row
    assert command.main(words, SIZES) == 0
    said = capsys.readouterr()
    assert "| tokenizer | tiny | 2 | lossless" in said.out
    assert said.err.count("bits per byte") == 3
    again = results.read(file)
    assert [row.run for row in again] == [row.run for row in rows]
    assert [row.charged for row in again] == [row.charged for row in rows]
    _scores_as_the_evaluation_does(folder, rows[0].run)


def _scores_as_the_evaluation_does(folder: Path, run: results.Run) -> None:
    made = training.recipe(folder, run, SIZES["tiny"])
    model = LanguageModel(made, tokens.tokenizer_info(made))
    stream, length = index.load(made).open(shards.HELD_OUT, made), made.model.n_positions
    expected = evaluate.total_loss(model.causal, stream, length)
    assert training.total_loss(model, stream, length) == pytest.approx(expected, rel=1e-5)
