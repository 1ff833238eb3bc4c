"""Generate text with the released model.

python -m jobs.generate run demo
python -m jobs.generate run work/demo/runs/demo --step 80
python -m jobs.generate text demo 霧浜県の
python -m jobs.generate text work/demo/runs/demo/export --temperature 0.5 < prompts.txt
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  a verb is made by its annotations
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import Json, OfRecipe, main, print_json, verb
from jobs.release import Step, export_of, release_app
from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.config.recipe import Recipe

app = release_app(
    "generate",
    "Generate text with the released model, from the recipe's prompts or yours.",
    "Continue the recipe's prompts",
)


@dataclass(frozen=True)
class Given:
    """The prompts of the command line."""

    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Raw text; repeatable.")] = (
        None
    )
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A file with a prompt a line; - for standard input."),
    ] = None


@dataclass(frozen=True)
class Sampling:
    """How the tokens are drawn; by default as the section release of the recipe says."""

    temperature: Annotated[
        float | None, typer.Option("--temperature", help="A lower one gives less varied text.")
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Draw from the likeliest tokens of this probability."),
    ] = None
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", help="Maximum length of a continuation.")
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", help="Another one gives another text.")] = (
        None
    )
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Draw nothing: always take the likeliest token.")
    ] = False

    def overrides(self, given: list[str]) -> list[str]:
        """The options as overrides, after those given. Raises ConfigError for a key that is set twice."""
        own = {
            f"release.{key}": value
            for key, value in vars(self).items()
            if value is not None and key != "greedy"
        }
        set_already = [text.partition("=")[0] for text in given]
        for key in own:
            if key in set_already:
                raise ConfigError(f"{key}: set as an option and as an override; give one of them")
        drawing = [key for key in (*own, *set_already) if key != "release.max_new_tokens"]
        if self.greedy and drawing:
            raise ConfigError(f"--greedy: draws nothing, so {drawing[0]} has no effect; remove one")
        return [*given, *(f"{key}={value}" for key, value in own.items())]


@verb(app, "text", "demo 霧浜県の --temperature 0.5")
def text_verb(
    arguments: OfRecipe,
    given: Given,
    sampling: Sampling,
    step: Step = None,
    as_json: Json = False,
) -> None:
    """Continue prompts and print plain text, token by token.

    RECIPE may also be an exported folder, wherever it lies. Words after it without an equals sign are
    prompts, too. Without any, and without --file, standard input has a prompt a line; on a terminal, you
    type them. With --step, use the export of that step.
    """
    from kit.release import continuation, exported, prompt_loop

    words = arguments.overrides or []
    own = [text for text in words if "=" not in text]
    overrides = [text for text in words if "=" in text]
    folder, recipe = _source(arguments, overrides, sampling, step)
    texts = _prompts(own, given, as_json=as_json)
    with continuation.opened(*exported.load(folder), recipe, greedy=sampling.greedy) as writer:
        if texts is None:
            prompt_loop.run(writer, _tell)
            return
        tokens = [writer.tokens(text) for text in texts]  # refuses all that cannot be continued
        if as_json:
            rows = [vars(writer.continued(ids, number)) for number, ids in enumerate(tokens)]
            found = [{"prompt": t, **row} for t, row in zip(texts, rows, strict=True)]
            print_json({"export": str(folder), "texts": found})
            return
        for number, ids in enumerate(tokens):
            writer.continued(ids, number, _tell)
            _tell("\n")


def _prompts(own: list[str], given: Given, *, as_json: bool) -> list[str] | None:
    """The prompts of a command; None if they will be typed. Raises ConfigError or InputError."""
    from kit.release import prompts

    if not own and given.prompt is None and given.file is None:
        if not sys.stdin.isatty():
            return prompts.of_file(prompts.STANDARD_INPUT)
        if as_json:
            raise ConfigError("--json: no prompts; give --prompt or --file, or standard input")
        return None
    texts = prompts.of_arguments([*own, *(given.prompt or [])])
    return texts if given.file is None else texts + prompts.of_file(given.file)


def _source(
    arguments: OfRecipe, overrides: list[str], sampling: Sampling, step: int | None
) -> tuple[Path, Recipe]:
    """The export, and its recipe with the sampling of the command. Raises EkidenError."""
    from kit.config import presets
    from kit.config.load import changed_recipe
    from kit.release import exported, generate
    from kit.release.generate import SETTINGS

    arguments.refuse_cluster_keys()
    place = presets.recipe(arguments.recipe_file)
    others = [text for text in overrides if text.partition("=")[0] not in SETTINGS]
    settings = sampling.overrides([text for text in overrides if text not in others])
    if others and place.is_dir():
        kind = "an exported folder" if exported.is_export(place) else "a run directory"
        raise ConfigError(
            f"override '{others[0]}': with {kind} you can only override the sampling: "
            f"{', '.join(SETTINGS)}"
        )
    export, of_run = export_of(arguments.recipe_file, step, others, SETTINGS)
    recipe = changed_recipe(of_run or exported.recipe_of(export), settings)
    if of_run is not None:
        generate.refuse_other_weights(export, recipe.release.dtype)
    return export, recipe


def _tell(text: str) -> None:
    print(text, end="", flush=True)


if __name__ == "__main__":
    main(app)
