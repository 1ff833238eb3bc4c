"""A hook of MkDocs: pages that lie beside docs/ are pages of the site too.

README, CONTRIBUTING and the like stand at the top of the repository, where GitHub looks for them. A page of
docs/ links to `../CONTRIBUTING.md`, and that file to `docs/design.md`; in the site all are in one folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    for name in BESIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links as they are in the repository into those of the site."""
    if page.file.src_path in BESIDE:
        return markdown.replace("](docs/", "](")
    for name in BESIDE:
        markdown = markdown.replace(f"](../{name}", f"]({name}")
    return markdown
