"""The section `alerts` of a recipe: how alerts reach you, and how a dead guard is noticed."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from kit.config.section import RECORDED, Section
from kit.output.redaction import without_addresses


class Alerting(Section):
    """Messages of `watch guard`."""

    command: str | None = Field(
        default=None,
        min_length=1,
        description="shell command that delivers a message, for example to a chat or by mail. It gets the "
        "message as one JSON object on standard input, and its `subject` and `message` also as "
        "EKIDEN_SUBJECT and EKIDEN_MESSAGE; it runs in the run directory, and a failure is retried. null: "
        "messages are only printed",
    )
    severity: Literal["warning", "critical"] = Field(
        default="warning", description="least severity of an alert that is reported"
    )
    repeat: float = Field(
        default=3600,
        ge=60,
        description="seconds after which an alert that still holds is reported again",
    )
    timeout: float = Field(
        default=30,
        gt=0,
        le=300,
        description="seconds after which the command is killed, and the heartbeat URL counts as not "
        "answering. Only with command or heartbeat_url",
    )
    heartbeat_url: str | None = Field(
        default=None,
        description="address to request after each look that saw the run, if all messages arrived. A dead "
        "man's switch behind it alerts you when the requests stop. null: off",
    )

    @field_validator("heartbeat_url")
    @classmethod
    def _is_a_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None or info.context == RECORDED:
            return url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write an http:// or https:// address, or null")
        return url

    def shown(self) -> dict[str, Any]:
        """As JSON, without the secrets in addresses and in the command."""
        values = self.model_dump(mode="json")
        return {k: without_addresses(v) if isinstance(v, str) else v for k, v in values.items()}
