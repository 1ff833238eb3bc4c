"""The report as one page of HTML: parts in order, each alone in what it cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit import __version__
from kit.errors import EkidenError
from kit.output.charts import svg
from kit.watch.report import of_data, of_record, of_run
from kit.watch.report.markup import Markup, paragraph, private, text
from kit.watch.report.style import sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kit.output.charts.chart import Chart
    from kit.watch.report.content import Content

    Part = Callable[[Content], Markup]

MOST = 1_000_000  # bytes of a page; every part is bounded, so that the sum is far below
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p>{summary}</p>
<p class="soft">{made}</p>
</header>
<nav aria-label="Parts of the report"><ul>{links}</ul></nav>
<main>
{parts}</main>
<footer><p>{foot}</p></footer>
</body>
</html>
"""


def page(content: Content, charts: Mapping[str, Chart]) -> str:
    """The page; `charts` by their names. A chart or table without figures is left out with a word."""
    parts = [*_parts(content, charts)]
    return _PAGE.format(
        title=text(f"{content.recipe.name}: report"),
        style=sheet(),
        name=text(content.recipe.name),
        summary=private(of_run.summary(content), 500),
        made=private(_made(content)),
        links="".join(f'<li><a href="#{_anchor(name)}">{name}</a></li>' for name, _ in parts),
        parts="".join(
            f'<section id="{_anchor(name)}">\n<h2>{name}</h2>\n{body}</section>\n'
            for name, body in parts
        ),
        foot=text(f"Written by ekiden {__version__}, watch report."),
    )


def _parts(content: Content, charts: Mapping[str, Chart]) -> Iterator[tuple[str, str]]:
    def chart(name: str) -> str:
        return svg.drawn(charts[name]) if name in charts else ""

    def table(title: str, part: Part) -> str:
        return f"<h3>{title}</h3>\n{_alone(part, content)}"

    yield "Figures", _alone(_figures, content)
    if not content.public:
        yield "Alerts", _alone(of_run.alerts, content)
    curves = "".join(chart(name) for name in ("loss", "late-loss", "learning-rate", "throughput"))
    yield "Training", curves or paragraph("No step was done yet.")
    yield "Goodput", chart("goodput") + _alone(of_run.goodput, content)
    yield "Attempts", chart("timeline") + _alone(of_run.attempts, content)
    if not content.public:
        yield "Arrival", chart("progress") + _alone(of_run.arrival, content)
    yield (
        "Data",
        table("Corpus", of_data.corpus)
        + table("Tokenizer", of_data.tokenizer)
        + table("Tokens", of_data.data),
    )
    # A public page is part of the export: whenever that is made, samples come later.
    samples = "" if content.public else table("Samples", of_data.samples)
    yield "Results", table("Scores", of_data.scores) + samples
    if content.public:
        yield "Record", table("Versions", of_record.versions) + table("Recipe", of_record.recipe)
        return
    yield (
        "Record",
        table("Stages", of_run.stages)
        + table("Amendments", of_record.amended)
        + table("Versions", of_record.versions)
        + table("Nodes", of_record.nodes)
        + table("Recipe", of_record.recipe),
    )


def _made(content: Content) -> str:
    moment = f"as of {of_run.when(content.now)}"
    return moment.capitalize() if content.public else f"{content.run.root}, {moment}"


def _figures(content: Content) -> Markup:
    return of_run.figures(content, of_data.final_scores(content.run))


def _alone(part: Part, content: Content) -> Markup:
    """A part of the page, or the reason why it cannot be shown."""
    try:
        return part(content)
    except EkidenError as error:
        return paragraph(private(error, 500))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return paragraph(private(f"Not shown: {type(error).__name__}: {error}", 500))


def _anchor(name: str) -> str:
    return name.lower()
