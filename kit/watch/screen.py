"""The live view as a pure function: facts, a page and a size give the lines of a terminal.

    screen(facts, Page("attempts"), width=80, height=24, now=time.time())

As many lines as the terminal has, none wider; from WIDE columns on, the first page has two columns. A page
that is longer is scrolled.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells
from rich.text import Text

from kit.output.quantities import count, duration
from kit.watch.page import Page
from kit.watch.plot import AXES, SMALLEST, VALIDATION
from kit.watch.text import LABEL, blocks, end_of, loss_plot, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Facts = dict[str, Any]

WIDE = 140  # columns from which there are two
OLD = 30.0  # seconds from which the age of the figures is shown
_LEFT = 90  # columns of the left one, at most
_BETWEEN = 3  # columns between them
_FOLDABLE = 20  # columns from which lines are folded, not cut off
_INDENT = 4  # columns of the rest of a folded line of a log
_FEWEST = 1  # attempts, on a small terminal
_AIRY = 40  # lines from which blocks have an empty line between them
_PLOT = 20  # lines of a plot, at most, on a narrow terminal
_STYLES = {
    "critical": "bold red", "warning": "yellow", "problem": "bold magenta", "next": "bold",
    "failed": "bold red", "cancelled": "red", "stopped": "red", "interrupted": "red",
    "broken": "bold red", "stale": "yellow", "unknown": "yellow", "incomplete": "yellow",
    "queued": "yellow", "running": "bold green", "done": "green", "waiting": "dim",
}  # fmt: skip
_FOOTERS = {
    "main": "q quit   a attempts   l log   t {span}   ? help",
    "attempts": "q quit   m back   l log   arrows scroll   ? help",
    "log": "q quit   m back   a attempts   arrows scroll   ? help",
    "help": "q quit   m back",
}
_KEYS = 19  # columns of the keys in the help
_HELP = """\
q, Ctrl-C          quit; the run continues
a                  attempts: when each started, its steps, and why it ended
l                  the last lines of the log of rank 0, as they are written
t                  the loss of the last tenth of the steps, or of all
m, Esc             back to the first page; so does the key of the page itself
up, down, j, k     one line
space, b           one page; also Page Down, Page Up
g, G               the begin, the end; also Home, End

In the plot, o is a validation. Below the steps lie the attempts, each where it
starts. High losses of the first tenth of the steps may lie above the plot.

Files are read every few seconds; Slurm is asked once a minute. `watch --once`
prints the first page as text, `watch --json` its figures."""


def screen(
    shown: Facts,
    page: Page,
    width: int,
    height: int,
    now: float,
    log: str | None = None,
    tail: Sequence[str] = (),
) -> tuple[list[Text], Page]:
    """The lines of a terminal, and the page with a scroll that it has.

    `tail` are the last lines of the file `log`.
    """
    room = max(1, height - 2)
    lines = _page(shown, page, width, room, now, tail)
    hidden = max(0, len(lines) - room)
    scroll = min(max(0, page.scroll), hidden)
    begin = hidden - scroll if page.name == "log" else scroll
    seen = lines[begin : begin + room]
    seen += [Text()] * (room - len(seen))
    title = (log or "no log yet") if page.name == "log" else shown["run"]
    whole = [_header(title, _clock(shown, now), width, old=now - shown["time"] >= OLD), *seen]
    whole = [*whole[: height - 1], _footer(page, begin, hidden, width)]
    for line in whole:
        line.truncate(width, overflow="ellipsis")
    return whole, Page(page.name, scroll, page.recent)


def reading(run: str, problem: str | None) -> list[Text]:
    """The lines before the first look has ended, or if it failed."""
    return [Text(clean(run)), Text(clean(problem or "reading ..."), style="dim")]


def clean(text: str) -> str:
    """A text without characters that would act on a terminal."""
    return "".join(
        "?" if unicodedata.category(sign).startswith("C") else sign for sign in text.expandtabs()
    )


def _page(
    shown: Facts, page: Page, width: int, room: int, now: float, tail: Sequence[str]
) -> list[Text]:
    if page.name == "help":
        return [part for line in _HELP.splitlines() for part in _fold(Text(line), width, _KEYS)]
    if page.name == "attempts":
        return _attempts(shown, width, now)
    if page.name == "log":
        return [part for line in tail for part in _fold(Text(clean(line)), width, _INDENT)]
    return (_wide if width >= WIDE else _narrow)(shown, page, width, room, now)


def _narrow(shown: Facts, page: Page, width: int, room: int, now: float) -> list[Text]:
    """One column, with a plot of the lines that are left."""
    found = blocks(shown, now, attempts=_FEWEST if room < 28 else 3 if room < 38 else 5)
    above = _spaced(found, ("problems", "alerts", "chain", "run"), width, airy=room >= _AIRY)
    below = _spaced(found, ("arrival", "goodput", "attempts", "ahead"), width, airy=room >= _AIRY)
    left = min(_PLOT, max(AXES + SMALLEST, room - len(above) - len(below)))
    return [*above, *_plot(shown, page, width, left), *below]


def _wide(shown: Facts, page: Page, width: int, room: int, now: float) -> list[Text]:
    """Two columns below the alerts: the chain and the past, and the run with its plot."""
    found = blocks(shown, now, attempts=8, every_stage=True)
    above = _spaced(found, ("problems", "alerts"), width, airy=True)
    size = min(_LEFT, (width - _BETWEEN) // 2)
    rest = width - size - _BETWEEN
    left = _spaced(found, ("chain", "goodput", "attempts", "ahead"), size, airy=room >= _AIRY)
    right = _spaced(found, ("run", "arrival"), rest, airy=room >= _AIRY)
    lines = min(room - len(above), max(len(left), rest // 3)) - len(right)
    right += _plot(shown, page, rest, max(AXES + SMALLEST, lines))
    return [*above, *_beside(left, right, size)]


def _spaced(
    found: Mapping[str, Sequence[str]], names: Sequence[str], width: int, *, airy: bool
) -> list[Text]:
    """Blocks below one another, each with an empty line after it if there is room for such."""
    lines: list[Text] = []
    for name in names:
        block = _folded(found[name], width)
        lines += [*block, Text()] if airy and block else block
    return lines


def _beside(left: Sequence[Text], right: Sequence[Text], size: int) -> list[Text]:
    lines = []
    for number in range(max(len(left), len(right))):
        line = left[number].copy() if number < len(left) else Text()
        line.pad_right(size + _BETWEEN - line.cell_len)
        lines.append(line + right[number] if number < len(right) else line)
    return lines


def _plot(shown: Facts, page: Page, width: int, height: int) -> list[Text]:
    lines = [Text(line) for line in loss_plot(shown, width, height, recent=page.recent)]
    for line in lines[:-AXES]:
        line.highlight_regex(VALIDATION, "yellow")
        line.highlight_regex("[⠀-⣿]+", "cyan")
    return lines


def _attempts(shown: Facts, width: int, now: float) -> list[Text]:
    """A table of all attempts, the newest first."""
    head = f"{'':>5} {'started':<16} {'from step':>10} {'steps':>8} {'lost':>6}  {'held':<10} end"
    table = [Text(head, style="bold")]
    for one in reversed(shown["attempts"]):
        held = duration((one["end"] or now) - one["start"])
        end = end_of(shown, one)
        row = (
            f"{one['number']:>5} {when(one['start']):<16} {one['from_step']:>10,} {one['steps']:>8,} "
            f"{one['lost'] or '':>6}  {held if one['end'] or end == 'running' else '':<10} {end}"
        )
        table += _fold(Text(clean(row)), width, head.index("end"))
    return table if shown["attempts"] else [Text("no attempt has started")]


def _folded(lines: Iterable[str], width: int) -> list[Text]:
    """Lines with a label, in colour, folded at the width."""
    folded: list[Text] = []
    kind = ""
    for line in lines:
        text = Text(clean(line))
        kind = line[:LABEL].strip() or kind
        word = line[LABEL:].split(" ", 1)[0]
        text.stylize(_STYLES.get(kind, "bold"), 0, LABEL)
        if kind in ("critical", "warning"):
            text.stylize(_STYLES[kind] if line[:LABEL].strip() else "bold", LABEL)
        elif kind == "chain":
            word = "not begun" if line[LABEL:].startswith("not begun") else word
            text.stylize(_STYLES.get(word, ""), LABEL, LABEL + len(word))
        folded += _fold(text, width, 2 * LABEL if kind == "chain" else LABEL)
    return folded


def _fold(text: Text, width: int, indent: int) -> list[Text]:
    """The lines of a text, at words where that leaves half a line, the later ones indented."""
    if text.cell_len <= width or width < _FOLDABLE:
        return [text]
    indent = min(indent, width // 2)
    cut = len(chop_cells(text.plain, width)[0])
    space = text.plain.rfind(" ", indent, cut + 1)
    if space > 0 and cell_len(text.plain[:space]) > (width + indent) // 2:
        cut = space
    rest = text[cut:]
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    return [text[:cut], *_fold(Text(" " * indent) + rest, width, indent)]


def _header(title: str, clock: str, width: int, *, old: bool) -> Text:
    """A path, of which the end is shown if it is too long, and the time."""
    path = clean(title)
    while cell_len(path) > max(0, width - len(clock) - 2):
        path = path[1:]
    left = Text(path, style="bold reverse")
    left.pad_right(width - left.cell_len - len(clock))
    return left + Text(clock, style="bold yellow reverse" if old else "reverse")


def _clock(shown: Facts, now: float) -> str:
    """The time, or the age of the figures if they are old; before it the age of Slurm's answer."""
    age = now - shown["time"]
    clock = when(now) if age < OLD else f"as of {duration(age)} ago"
    if shown["queue"] and shown["queue"]["time"] is not None:
        clock = f"queue as of {duration(now - shown['queue']['time'])} ago   {clock}"
    return clock


def _footer(page: Page, begin: int, hidden: int, width: int) -> Text:
    """The keys, and the number of lines above and below."""
    keys = Text(
        _FOOTERS[page.name].format(span="all steps" if page.recent else "last steps"), style="dim"
    )
    if not hidden:
        return keys
    place = f"{count(begin, 'line')} above, {hidden - begin:,} below"
    if keys.cell_len + len(place) + 2 > width:
        place = f"-{begin:,} +{hidden - begin:,}"
    keys.truncate(max(0, width - len(place) - 1))
    keys.pad_right(width - keys.cell_len - len(place))
    return keys + Text(place, style="bold")
