"""The pictures of the README, from a finished demo: `make pictures`.

demo.svg is the report of the finished run, as `ekiden pipeline status demo` prints it on a terminal;
loss.svg and loss-dark.svg are its loss by step, on a light and on a dark page.
"""

from __future__ import annotations

import html
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kit import library
from kit.cluster import decisions
from kit.store.files import read_json
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
RUN = ROOT / "work" / "demo" / "runs" / "demo"
COMMAND = "ekiden pipeline status demo"
HOME = "/home/you/ekiden"  # stands for the path of the checkout
COLUMNS = 92  # longer lines are cut

# The window in SVG units; box-drawing characters meet only if lines are no higher than their glyphs.
CELL, LINE, FONT, MARGIN, BAR = 12.0, 23, 20, 16, 40
BACKGROUND, FOREGROUND = "#24292f", "#e6edf3"
BOLD = ' class="bold"'
CONSOLE = Console()
WINDOW = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{width}} {{height}}" role="img">
<title>{COMMAND}</title>
<style>
text {{{{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}}}
text {{{{ font-size: {FONT}px; fill: {FOREGROUND}; white-space: pre; }}}}
.bold {{{{ font-weight: bold; }}}}
</style>
<rect width="{{width}}" height="{{height}}" rx="10" fill="{BACKGROUND}"/>
<circle cx="22" cy="20" r="7" fill="#ff5f57"/>
<circle cx="44" cy="20" r="7" fill="#febc2e"/>
<circle cx="66" cy="20" r="7" fill="#28c840"/>
<text x="50%" y="27" text-anchor="middle">{COMMAND}</text>
{{lines}}
</svg>
"""

# Ink, grid, and a colour for each attempt.
LIGHT = ("#1f2328", "#d1d9e0", ("#0969da", "#bc4c00"))
DARK = ("#e6edf3", "#3d444d", ("#58a6ff", "#f0883e"))


def main() -> None:
    """Write all pictures beside this file."""
    if not (RUN / "export").is_dir():
        sys.exit(f"{RUN}: not finished; run make demo first")
    draw_terminal(FOLDER / "demo.svg")
    draw_loss(FOLDER / "loss.svg", *LIGHT)
    draw_loss(FOLDER / "loss-dark.svg", *DARK)


def draw_terminal(path: Path) -> None:
    """The output of the command, as a terminal shows it."""
    command = [sys.executable, "-m", "jobs.ekiden", *COMMAND.split()[1:]]
    variables = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    done = subprocess.run(command, cwd=ROOT, env=variables, check=True, stdout=subprocess.PIPE)
    shown = done.stdout.decode().replace(str(ROOT), HOME).splitlines()
    lines = [run for row, line in enumerate(shown) for run in _runs(Text.from_ansi(line), row)]
    width, height = 2 * MARGIN + COLUMNS * CELL, BAR + len(shown) * LINE + MARGIN
    _write(path, WINDOW.format(width=f"{width:.0f}", height=height, lines="\n".join(lines)))


def _runs(line: Text, row: int) -> Iterator[str]:
    """A line of the terminal as texts of one style and one width of character, each in its columns."""
    if line.cell_len > COLUMNS:
        line.truncate(COLUMNS - 4)
        line.append(" ...")
    cells = [
        (character, cell_len(character), bool(line.get_style_at_offset(CONSOLE, place).bold))
        for place, character in enumerate(line.plain)
    ]
    column = 0
    for (wide, bold), group in itertools.groupby(cells, key=lambda cell: cell[1:]):
        text = "".join(character for character, _, _ in group)
        length = wide * len(text)
        if text.strip():
            yield (
                f'<text x="{MARGIN + column * CELL:g}" y="{BAR + (row + 0.8) * LINE:g}"'
                f' textLength="{length * CELL:g}"{BOLD if bold else ""}>{html.escape(text)}</text>'
            )
        column += length


def draw_loss(path: Path, ink: str, grid: str, colours: tuple[str, ...]) -> None:
    """The loss of every step in the colour of its attempt, and what ended each attempt but the last."""
    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "ekiden", "text.color": ink, "axes.labelcolor": ink}
    mpl.rcParams |= {"xtick.color": ink, "ytick.color": ink, "axes.edgecolor": grid}
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    _plot(axes, ink, colours)
    axes.grid(color=grid, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="step", ylabel="loss, nats per token")
    axes.legend(frameon=False)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)
    _write(path, path.read_text(encoding="utf-8"))


def _plot(axes: Axes, ink: str, colours: tuple[str, ...]) -> None:
    steps, validations = library.ledger(RUN), library.ledger(RUN, "validation")
    before: Any = None
    for number, (attempt, part) in enumerate(steps.groupby("attempt")):
        joined = part if before is None else steps.loc[before : part.index[-1]]
        label = f"training, attempt {attempt}"
        axes.plot(joined.index, joined.loss, color=colours[number % len(colours)], label=label)
        before = part.index[-1]
    held_out = validations.validation_loss
    axes.plot(
        held_out.index, held_out, "o", color=ink, markersize=5, clip_on=False, label="held-out text"
    )
    axes.set_xlim(0, steps.index[-1])
    unigram = read_json(RUN / "evaluation" / "scores.json")["unigram_loss"]
    axes.axhline(
        unigram, color=ink, linestyle=":", linewidth=1, label="held-out text, unigram model"
    )
    ends = steps.groupby("attempt").apply(lambda part: part.index[-1])
    requeues = [row["reason"] for row in decisions.read(Run(RUN)) if row["requeued"]]
    for step, reason in zip(ends, requeues, strict=False):
        axes.axvline(step, color=ink, linestyle="--", linewidth=1)
        axes.annotate(
            f"{reason} after step {step}:\nsaved, requeued, resumed", (step, axes.get_ylim()[1]),
            xytext=(6, -4), textcoords="offset points", va="top",
        )  # fmt: skip


def _write(path: Path, svg: str) -> None:
    lines = [line.rstrip() for line in svg.splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
