"""Text from the released model.

python -m jobs.generate run configs/demo.yaml
python -m jobs.generate text configs/demo.yaml --prompt 霧浜県の
"""

from typing import Annotated

import typer

from jobs.command import Overrides, RecipeFile, load, main, run_of, stage_app
from kit.errors import StageError
from kit.workspace import MANIFEST

app = stage_app("generate", "Text from the released model: the recipe's prompts, or yours.")


@app.command("text")
def text_verb(
    recipe_file: RecipeFile,
    prompt: Annotated[list[str], typer.Option("--prompt", help="Raw text; may be given again.")],
    overrides: Overrides = None,
) -> None:
    """Continue a prompt, and print plain text."""
    from kit.release.generate import generate

    recipe, _ = load(recipe_file, overrides)
    export = run_of(recipe).export
    if not (export / MANIFEST).is_file():
        raise StageError(f"{export}: not made yet; run jobs.export first")
    for text in generate(export, recipe, prompt):
        print(text)


if __name__ == "__main__":
    main(app)
