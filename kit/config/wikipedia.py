"""The section `corpus.wikipedia` of a recipe: what becomes of the markup of articles."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from kit.config import template_pattern
from kit.config.section import Section

_APPARATUS = (
    "脚注", "注釈", "注", "出典", "脚注・出典", "脚注と出典", "注釈・出典", "出典・脚注", "出典・注釈",
    "注釈と出典", "参考文献", "主要参考文献", "参考資料", "参考図書", "関連文献", "関連項目",
    "関連記事", "関連リンク", "外部リンク",
)  # fmt: skip


class Wikipedia(Section):
    """What becomes of the markup of Wikipedia's articles in mode `default`."""

    templates: dict[str, str | None] = Field(
        default={},
        description="what templates give, added to the built-in table, by name: a pattern such as '{1}' or "
        "'{1}（{label|2}）', '' for nothing; null: not known, so that its sentence is left out. A * in a "
        "name stands for anything",
    )
    lists: Literal["keep", "drop"] = Field(
        default="keep", description="items of lists. keep: each a line of its own; drop: left out"
    )
    headings: Literal["keep", "drop"] = Field(
        default="keep",
        description="headings of sections that have text. keep: each a line of its own; drop: left out",
    )
    formulas: Literal["drop", "tex"] = Field(
        default="drop",
        description="formulas. drop: left out with their sentence; tex: their source, as in $x^2$",
    )
    leave_out_sections: list[str] = Field(
        default=list(_APPARATUS),
        description="headings of the sections to leave out, with all below them",
    )

    @field_validator("templates")
    @classmethod
    def _patterns(cls, templates: dict[str, str | None]) -> dict[str, str | None]:
        for name, pattern in templates.items():
            if not name.strip() or set(name) & set("{}|[]<>#"):
                raise ValueError(
                    f"{name!r} is no name of a template; write it as in {{{{NAME|...}}}}"
                )
            if pattern is not None:
                template_pattern.parse(pattern)
        return templates
