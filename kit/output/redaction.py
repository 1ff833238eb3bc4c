"""Redact text for strangers: mask passwords, tokens, user names and home directories.

    redacted("http://ann:secret@host/ from /home/ann/work")     # "http://***@host/ from ~/work"

Anything that looks like a secret is masked, even if it is not one. A secret that looks like an ordinary
word is missed, so read the text before you publish it.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
from typing import Any

from kit.output.secret_names import is_secret

MASK = "***"
_OF_URLS = (
    # The part before @, and secrets in a query.
    (re.compile(r"(?<=://)[^\s/?#\"'<>]*@"), f"{MASK}@"),
    (
        re.compile(
            r"(?i)([?&;][\w.-]*(?:token|key|secret|passw\w*|pwd|signature|sig|credential|auth)[\w.-]*=)[^&\s\"'#]+"
        ),
        rf"\1{MASK}",
    ),
    # Addresses whose path is the secret: webhooks of chats, topics, dead man's switches.
    (
        re.compile(
            r"(https?://(?:hooks\.slack\.com|(?:[\w-]+\.)?discord(?:app)?\.com/api/webhooks|ntfy\.sh"
            r"|hc-ping\.com|api\.telegram\.org|[\w.-]+\.webhook\.office\.com)/)[^\s\"'<>]+"
        ),
        rf"\1{MASK}",
    ),
)
_SECRETS = (
    *_OF_URLS,
    # Headers and assignments. `token` is a common word in a training log: only with : or =, and no number.
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|(?<!\w)token|_token)"
            r"[\"']?\s*[=:]\s*[\"']?)(?![\d.,]+\b)[^\s\"',;]+"
        ),
        rf"\1{MASK}",
    ),
    # Tokens of a known form: Hugging Face, GitHub, GitLab, OpenAI and others, AWS, Slack, JSON web tokens.
    (
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{8,}|gh[pousr]_\w{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}|sk-[\w-]{16,}"
            r"|AKIA[A-Z0-9]{12,}|xox[a-z]-[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
        ),
        MASK,
    ),
)
# Environment variables, by their names: WANDB_KEY=..., SSH_PASSPHRASE: ...
_VARIABLE = re.compile(
    r"\b([A-Z][A-Z0-9]*_[A-Z0-9_]+)(\"?\s*[=:]\s*[\"']?)(?![\d.,]+\b)[^\s\"',;]+"
)
_BEHIND_HOST = re.compile(r"(://[^\s/?#\"'<>]+[/?#])[^\s\"'<>]+")
# Anybody's home directory, on Linux or macOS.
_HOMES = re.compile(r"(?<![\w.~])/(?:home|Users)/[^/\s:;,\"'()]+")
_COMMON = {
    "root",
    "user",
    "ubuntu",
    "admin",
    "nobody",
}  # reveal nothing, and occur as ordinary words


def redacted(text: str) -> str:
    """Mask secrets, and replace home directories and this user's name by `~`."""
    for pattern, instead in (*_SECRETS, *_own(), (_HOMES, "~")):
        text = pattern.sub(instead, text)
    return _VARIABLE.sub(_without_value, text)


def without_credentials(text: str) -> str:
    """Mask the credentials in URLs, and nothing else."""
    for pattern, instead in _OF_URLS:
        text = pattern.sub(instead, text)
    return text


def without_addresses(text: str) -> str:
    """Mask everything behind the host in URLs, secrets by their form, and nothing else."""
    for pattern, instead in ((_BEHIND_HOST, rf"\1{MASK}"), *_SECRETS):
        text = pattern.sub(instead, text)
    return text


def redact(value: Any) -> Any:
    """Redact all texts in lists and mappings, but not the keys."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: redact(one) for key, one in value.items()}
    return [redact(one) for one in value] if isinstance(value, list | tuple) else value


def _without_value(assignment: re.Match[str]) -> str:
    name, sign = assignment.groups()
    return f"{name}{sign}{MASK}" if is_secret(name) else assignment[0]


def _own() -> tuple[tuple[re.Pattern[str], str], ...]:
    return _of(os.environ.get("HOME", ""), os.environ.get("USER", ""))


@functools.cache
def _of(home: str, user: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of this user's names and home directories, with symlinks resolved too."""

    homes, names = {home, os.path.realpath(home)} if home else set(), {user}
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:  # a container without an entry
        pass
    else:
        homes |= {entry.pw_dir, os.path.realpath(entry.pw_dir)}
        names |= {entry.pw_name, *entry.pw_gecos.split(",")[:1]}
    patterns = [
        (re.compile(rf"(?<![\w.~-]){re.escape(one.rstrip('/'))}(?=$|[^\w.-])"), "~")
        for one in sorted(homes, key=len, reverse=True)
        if one.strip("/")
    ]
    patterns += [
        (re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"), "~")
        for name in sorted(names - _COMMON, key=len, reverse=True)
        if len(name) > 1
    ]
    return tuple(patterns)
