"""Turn raw text into shards of segmented documents, and report on it.

python -m jobs.preprocess run demo
python -m jobs.preprocess report demo
"""

from jobs.command import OfRecipe, main, verb
from jobs.stage import stage_app

app = stage_app(
    "preprocess",
    "Turn raw text into shards of segmented documents.",
    "Extract, normalise, split and segment the raw texts into shards",
)


@verb(app, "report", "demo")
def report_verb(arguments: OfRecipe) -> None:
    """Show how much each step kept and dropped, with a plot and ten documents before and after."""

    from kit.corpus import report

    folder = report.make(arguments.load(refuse=False))
    print((folder / report.TABLE).read_text(encoding="utf-8"))
    print(f"{folder / report.TABLE}, {folder / report.PLOT}")


if __name__ == "__main__":
    main(app)
