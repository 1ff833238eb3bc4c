"""The experiments from raw text to the table, with models so small that they learn nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kit.corpus import report
from kit.data import index, shards, text_bytes, tokenizer_file, tokens
from kit.release import evaluate
from kit.store.paths import Workspace
from kit.tokenizer import measure
from kit.training.language_model import LanguageModel
from tests.experiments import __main__ as command
from tests.experiments import held_out, plan, results, training
from tests.experiments.variants import Size
from tests.relay import DEMO

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
    _halves_are_the_whole(folder, rows[0].run)


def _scores_as_the_evaluation_does(folder: Path, run: results.Run) -> None:
    made = training.recipe(folder, run, SIZES["tiny"])
    model = LanguageModel(made, tokens.tokenizer_info(made))
    stream, length = index.load(made).open(shards.HELD_OUT, made), made.model.n_positions
    expected = evaluate.total_loss(model.causal, stream, length)
    assert training.total_loss(model, stream, length) == pytest.approx(expected, rel=1e-5)


def _halves_are_the_whole(folder: Path, run: results.Run) -> None:
    """Every second document chooses rates, with its tokens and its text; the others are the evidence."""
    made = training.recipe(folder, run, SIZES["tiny"])
    files = index.load(made)
    sweep, evidence = (held_out.half(made, files, seed) for seed in (plan.SWEEP, plan.SWEEP + 1))
    whole = files.open(shards.HELD_OUT, made)
    ends = np.flatnonzero(whole.slice(0, len(whole)) == tokens.tokenizer_info(made).end) + 1
    assert sweep.stream.slice(0, ends[0]).tolist() == whole.slice(0, ends[0]).tolist()
    second = evidence.stream.slice(0, ends[1] - ends[0]).tolist()
    assert second == whole.slice(ends[0], ends[1]).tolist()
    assert len(sweep.stream) + len(evidence.stream) == len(whole)
    assert sweep.bytes + evidence.bytes == files.held_out_bytes
    sizes = text_bytes.table(tokenizer_file.load(Workspace(Path(made.workspace)).tokenizer))
    for half in (sweep, evidence):
        assert sizes[half.stream.slice(0, len(half.stream))].sum() == half.bytes
