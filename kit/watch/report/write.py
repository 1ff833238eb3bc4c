"""Write the report: `report.html`, and each of its charts as a PNG beside it, unless it is published.

content = gather(project, chain, files, now)
pages = write(content, run.report)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.errors import ConfigError
from kit.output.charts import picture
from kit.store.files import atomic, write_text
from kit.watch.report import charts
from kit.watch.report.page import page

if TYPE_CHECKING:
    from pathlib import Path

    from kit.watch.report.content import Content

PICTURES = ("loss", "late-loss", "learning-rate", "throughput", "goodput", "timeline", "progress")


def write(content: Content, folder: Path) -> Path:
    """Write page and pictures, each whole or absent; returns the page. A public one has no pictures.

    Raises ConfigError if the folder cannot be written.
    """
    target = folder / content.run.report_page.name
    drawn = charts.all_charts(content)
    text = page(content, drawn)
    try:
        for name in () if content.public else PICTURES:
            path = folder / f"{name}.png"
            if name not in drawn:
                path.unlink(missing_ok=True)
                continue
            with atomic(path) as out:
                picture.save(drawn[name], out=out)
        write_text(target, text)
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error.strerror}: the report cannot be written there; give another folder by --out"
        ) from None
    return target
