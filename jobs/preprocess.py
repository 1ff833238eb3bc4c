"""Raw text into shards of segmented documents, and a report on what became of it.

python -m jobs.preprocess run configs/demo.yaml
python -m jobs.preprocess report configs/demo.yaml
"""

from jobs.command import Overrides, RecipeFile, main, refuse_cluster_keys, stage_app
from kit.relay.resolve import load
from kit.relay.submit import say

app = stage_app("preprocess", "Raw text into shards of segmented documents.")


@app.command("report")
def report_verb(recipe_file: RecipeFile, overrides: Overrides = None) -> None:
    """What each step kept and dropped, with a plot and ten documents before and after."""
    from kit.corpus import report

    refuse_cluster_keys(overrides)
    recipe = load(recipe_file, overrides, refuse=False).recipe
    folder = report.make(recipe)
    say((folder / report.TABLE).read_text(encoding="utf-8"))
    say(f"{folder / report.TABLE}, {folder / report.PLOT}")


if __name__ == "__main__":
    main(app)
