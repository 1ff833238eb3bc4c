"""`generate text` on any exported folder: prompts from everywhere, streamed, as JSON, in a loop."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from jobs import generate
from kit.config import relocation
from kit.errors import ConfigError, EkidenError, InputError, StageError
from kit.models import architectures
from kit.release import continuation, exported, model_files, prompt_loop
from kit.store.files import write_json
from kit.tokenizer import huggingface
from tests.architectures import SHAPES, each

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Workdir

POSITIONS = 32
ENTRIES = [*huggingface.first_entries("lossless"), *"駅伝は海の今日▁␤、。ABC"]


@pytest.fixture
def shape() -> tuple[str, ...]:
    """GPT-2, where a test does not say otherwise."""
    return SHAPES["gpt2"]


@pytest.fixture
def export(workdir: Workdir, shape: tuple[str, ...]) -> Path:
    """An untrained model in a folder of its own: it writes anything, characters in bytes as well."""
    recipe = workdir.recipe("model.n_embd=8", f"model.n_positions={POSITIONS}", *shape)
    folder = workdir.folder / "elsewhere"
    torch.manual_seed(0)
    config = architectures.of(recipe.model).configuration(len(ENTRIES), begin=1, end=2)
    model = AutoModelForCausalLM.from_config(config)
    model_files.set_generation(model, recipe.release)
    model_files.save(model, folder)
    huggingface.save(huggingface.from_merges(ENTRIES, [], "lossless"), folder)
    tree = relocation.for_release(recipe.model_dump(mode="json"))
    write_json(folder / "recipe.json", tree)
    shutil.rmtree(workdir.workspace.root, ignore_errors=True)
    return folder


def said(*arguments: object, given: bytes | None = None) -> str:
    words = ["text", *map(str, arguments)]
    return CliRunner().invoke(generate.app, words, input=given, catch_exceptions=False).stdout


def texts(*arguments: object, given: bytes | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(said(*arguments, "--json", given=given))["texts"]
    return rows


def refused(*arguments: object, given: bytes | None = None) -> str:
    with pytest.raises(EkidenError) as error:
        said(*arguments, given=given)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


def test_prompts_come_from_arguments_a_file_and_standard_input(
    export: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeff駅伝は\r\n\n海の".encode())
    by_argument = texts(export, "--prompt", "駅伝は", "--prompt", "海の")
    assert [row["prompt"] for row in by_argument] == ["駅伝は", "海の"]
    assert texts(export, "--file", file) == by_argument
    assert texts(export, "--file", "-", given=file.read_bytes()) == by_argument
    assert texts(export, given=file.read_bytes()) == by_argument
    words = texts(export, "駅伝は", "release.seed=3", "海の")
    assert words == texts(export, "--prompt", "駅伝は", "--prompt", "海の", "--seed", 3)
    one, both = "駅伝は".encode(), ("--prompt", "駅伝は", "--file", "-")
    assert [row["prompt"] for row in texts(export, *both, given=one)] == ["駅伝は"] * 2


@each
def test_json_and_plain_output_are_the_same_text(export: Path) -> None:
    prompts = ("--prompt", "駅伝は", "--prompt", "海の")
    rows = texts(export, *prompts)
    assert said(export, *prompts) == "".join(f"{row['text']}\n" for row in rows)
    for row in rows:
        assert row["text"].startswith(row["prompt"])
        assert row["ended"] or row["new_tokens"] > 20


@each
def test_a_text_is_told_in_pieces_that_together_are_the_text(export: Path) -> None:
    recipe = exported.recipe_of(export)
    model, tokenizer = exported.load(export)
    broken = 0
    with continuation.opened(model, tokenizer, recipe) as writer:
        for number in range(20):
            pieces: list[str] = []
            done = writer.continued(writer.tokens("駅伝は"), number, pieces.append)
            assert "".join(pieces) == done.text
            assert pieces[0] == "駅伝は"
            broken += done.text.count("\ufffd")
    assert broken  # bytes, which must be held back: further ones may make them a character


def test_a_character_of_several_tokens_is_told_when_it_is_whole() -> None:
    tokenizer = huggingface.from_merges(ENTRIES, [], "lossless")
    told: list[str] = []
    pieces = continuation._Pieces(tokenizer, told.append)
    for number in tokenizer.encode("海鮎。\n 海").ids:
        pieces.put(torch.tensor([number]))
    pieces.end()
    assert told == ["海", "鮎。", "\n 海"]


def test_options_and_overrides_set_the_sampling(export: Path) -> None:
    prompt = ("--prompt", "駅伝は")
    (default,) = texts(export, *prompt)
    (short,) = texts(export, *prompt, "--max-new-tokens", 3)
    assert short["new_tokens"] <= 3
    assert texts(export, *prompt, "--seed", 5) != [default]
    assert texts(export, *prompt, "--seed", 5) == texts(export, *prompt, "release.seed=5")
    (greedy, same) = texts(export, *prompt, *prompt, "--greedy")
    assert greedy == same != default
    cold = texts(export, *prompt, "--temperature", 0.0001, "--top-p", 0.01)
    assert cold == [greedy]


def test_what_has_no_effect_is_refused(export: Path) -> None:
    prompt = ("--prompt", "駅伝は")
    assert "release.seed has no effect" in refused(export, *prompt, "--greedy", "--seed", 1)
    twice = ("--top-p", 0.5, "release.top_p=0.4")
    assert "release.top_p: set as an option and as an override" in refused(export, *prompt, *twice)
    assert "release.temperature=0.0: " in refused(export, *prompt, "--temperature", 0)
    assert "with an exported folder you can only" in refused(export, *prompt, "model.n_layer=2")
    assert "neither an exported folder nor a run directory" in refused(export.parent, *prompt)
    assert "of one step; remove --step" in refused(export, *prompt, "--step", 3)


def test_a_prompt_that_cannot_be_used_is_one_line(export: Path, tmp_path: Path) -> None:
    cp932 = tmp_path / "cp932.txt"
    cp932.write_bytes("駅伝は\n".encode() + "海の".encode("cp932"))
    assert refused(export, "--file", cp932).startswith(f"{cp932}, line 2: byte 0 (0x8a) is not")
    said_of = refused(export, "--prompt", "駅\udcff")
    assert said_of.startswith("prompt 1: byte 3 (0xff) is not valid UTF-8")
    assert "standard input: no prompt" in refused(export, given=b"\n\n")
    assert "cannot be read (No such file" in refused(export, "--file", tmp_path / "none")
    assert f"give 1 to {POSITIONS - 1}" in refused(export, "--prompt", "駅" * POSITIONS)
    assert "0 tokens" in refused(export, "--prompt", "駅", "--prompt", " ")


def test_a_folder_without_weights_or_recipe_is_one_line(export: Path) -> None:
    (export / "model.safetensors").unlink()
    with pytest.raises(StageError, match=r"elsewhere: has no weights"):
        said(export, "--prompt", "駅伝は")
    (export / "recipe.json").unlink()
    with pytest.raises(StageError, match=r"elsewhere: has no recipe\.json"):
        said(export, "--prompt", "駅伝は")


def test_json_on_a_terminal_asks_for_prompts(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(ConfigError, match="--json: no prompts"):
        generate.app(["text", str(export), "--json"], standalone_mode=False)


def test_a_loop_continues_each_line_to_the_end_of_input(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: Iterator[str | BaseException] = iter(
        ["駅伝は", "", "駅\udcff", "駅" * POSITIONS, "駅伝は", EOFError()]
    )

    def read(_: str) -> str:
        line = next(lines)
        if isinstance(line, BaseException):
            raise line
        return line

    told: list[str] = []
    model = exported.load(export)
    with continuation.opened(*model, exported.recipe_of(export)) as writer:
        prompt_loop.run(writer, told.append, read)
        written = [writer.continued(writer.tokens("駅伝は"), number).text for number in (0, 3)]
    assert "".join(told) == "".join(f"{text}\n" for text in written)
    assert written[0] != written[1]  # the same prompt, drawn anew
    errors = capsys.readouterr().err.splitlines()[1:-1]
    assert [error.partition(":")[0] for error in errors] == ["error"] * 2


def test_ctrl_c_stops_a_text_and_not_the_loop(export: Path) -> None:
    lines = iter(["駅伝は", "海の"])
    told: list[str] = []

    def tell(piece: str) -> None:
        told.append(piece)
        if piece == "駅伝は":
            raise KeyboardInterrupt

    def read(_: str) -> str:
        if (line := next(lines, None)) is None:
            raise KeyboardInterrupt
        return line

    with continuation.opened(*exported.load(export), exported.recipe_of(export)) as writer:
        prompt_loop.run(writer, tell, read)
        second = writer.continued(writer.tokens("海の"), 1).text
    assert "".join(told) == f"駅伝は\n{second}\n"


def test_a_prompt_that_is_refused_leaves_nothing_half_written(export: Path) -> None:
    runner = CliRunner()
    words = ["text", str(export), "--prompt", "駅伝は", "--prompt", "駅" * POSITIONS]
    done = runner.invoke(generate.app, words)
    assert isinstance(done.exception, InputError)
    assert done.stdout == ""
