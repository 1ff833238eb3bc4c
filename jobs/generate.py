"""Generate text with the released model.

python -m jobs.generate run demo
python -m jobs.generate run work/demo/runs/demo --step 80
python -m jobs.generate text demo --prompt 霧浜県の
python -m jobs.generate text work/demo/runs/demo --prompt 霧浜県の release.temperature=0.5
"""

from typing import Annotated

import typer

from jobs.command import OfRecipe, main, verb
from jobs.release import Step, release_app
from kit.errors import ConfigError, StageError

app = release_app(
    "generate",
    "Generate text with the released model, from the recipe's prompts or yours.",
    "Continue the recipe's prompts",
)


@verb(app, "text", "demo --prompt 霧浜県の release.temperature=0.5")
def text_verb(
    arguments: OfRecipe,
    prompt: Annotated[list[str], typer.Option("--prompt", help="Raw text; repeatable.")],
    step: Step = None,
) -> None:
    """Continue a prompt and print plain text.

    The section release of the recipe, or overrides of it, set the sampling. With --step, use the export
    of that step.
    """
    from kit.config import presets
    from kit.config.load import changed_recipe
    from kit.relay.resolve import load
    from kit.release.generate import SETTINGS, generate
    from kit.run import begun
    from kit.store.paths import MANIFEST

    arguments.refuse_cluster_keys()
    overrides = arguments.overrides or []
    settings = [text for text in overrides if text.partition("=")[0] in SETTINGS]
    others = [text for text in overrides if text not in settings]
    if others and presets.recipe(arguments.recipe_file).is_dir():
        raise ConfigError(
            f"override '{others[0]}': with a run directory you can only override the sampling: "
            f"{', '.join(SETTINGS)}"
        )
    project = load(arguments.recipe_file, others, refuse=False)
    begun.refuse_other(project, spare=SETTINGS)
    run, recipe = project.run, changed_recipe(project.recipe, settings)
    export = run.export if step is None else run.at(step).export
    if not (export / MANIFEST).is_file():
        rest = "first" if step is None else f"{arguments.recipe_file} --step {step} first"
        raise StageError(f"{export}: not exported yet; run jobs.export {rest}")

    for text in generate(export, recipe, prompt):
        print(text)


if __name__ == "__main__":
    main(app)
