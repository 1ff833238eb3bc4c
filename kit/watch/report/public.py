"""The content of a report as it may be published: no nodes, no alerts, and of reasons the kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kit.watch.report import ends

if TYPE_CHECKING:
    from kit.watch.report.content import Content
    from kit.watch.view import Facts


def public(content: Content) -> Content:
    """The same run for readers elsewhere, as of the last step."""
    attempts = [_with_kind(one) for one in content.attempts]
    facts: dict[str, Any] = dict(content.facts) | {
        "attempts": attempts,
        "alerts": [],
        "problems": [],
    }
    facts["time"] = content.training["last_step"] or content.now
    return replace(content, facts=facts, nodes={}, public=True)


def _with_kind(one: Facts) -> Facts:
    """An attempt whose reason is its kind: the words of a scheduler may name nodes and users."""
    reason = one["reason"]
    return dict(one) | {"reason": reason and ends.begin_of(reason)}
