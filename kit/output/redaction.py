"""Redact text for publication: passwords, tokens, user names and home directories.

    redacted("http://ann:secret@host/ from /home/ann/work")     # "http://***@host/ from ~/work"

Anything that looks like a secret is masked, even if it is none. A secret that looks like an ordinary word
is not recognised: read the text before you publish it.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
from typing import Any

MASK = "***"
_OF_URLS = (
    # The part before @, and query parameters with the name of a secret.
    (re.compile(r"(?<=://)[^\s/?#\"'<>]*@"), f"{MASK}@"),
    (
        re.compile(
            r"(?i)([?&;][\w.-]*(?:token|key|secret|passw\w*|pwd|signature|sig|credential|auth)[\w.-]*=)[^&\s\"'#]+"
        ),
        rf"\1{MASK}",
    ),
)
_SECRETS = (
    *_OF_URLS,
    # Headers and assignments. Training logs are full of `token`: it has to precede : or =, and no number.
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|(?<!\w)token|_token)"
            r"[\"']?\s*[=:]\s*[\"']?)(?![\d.,]+\b)[^\s\"',;]+"
        ),
        rf"\1{MASK}",
    ),
    # Tokens in the formats of Hugging Face, GitHub, GitLab, OpenAI and others, AWS, Slack; JSON web tokens.
    (
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{8,}|gh[pousr]_\w{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}|sk-[\w-]{16,}"
            r"|AKIA[A-Z0-9]{12,}|xox[a-z]-[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
        ),
        MASK,
    ),
)
# Home directories of any user, on Linux and macOS.
_HOMES = re.compile(r"(?<![\w.~])/(?:home|Users)/[^/\s:;,\"'()]+")
_COMMON = {"root", "user", "ubuntu", "admin", "nobody"}  # identify nobody, and are common words


def redacted(text: str) -> str:
    """The text with secrets masked, and `~` for homes and the name of this user."""
    for pattern, instead in (*_SECRETS, *_own(), (_HOMES, "~")):
        text = pattern.sub(instead, text)
    return text


def without_credentials(text: str) -> str:
    """The text with the passwords of its URLs masked, and nothing else."""
    for pattern, instead in _OF_URLS:
        text = pattern.sub(instead, text)
    return text


def redact(value: Any) -> Any:
    """Redact all texts in lists and mappings; keys stay unchanged."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    return [redact(item) for item in value] if isinstance(value, list | tuple) else value


def _own() -> tuple[tuple[re.Pattern[str], str], ...]:
    return _of(os.environ.get("HOME", ""), os.environ.get("USER", ""))


@functools.cache
def _of(home: str, user: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The patterns of this user's home directories (also those other than $HOME) and names."""
    homes, names = {home, os.path.realpath(home)} if home else set(), {user}
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:  # a container without an entry
        pass
    else:
        homes |= {entry.pw_dir, os.path.realpath(entry.pw_dir)}
        names |= {entry.pw_name, *entry.pw_gecos.split(",")[:1]}
    patterns = [
        (re.compile(rf"(?<![\w.~-]){re.escape(path.rstrip('/'))}(?=$|[^\w.-])"), "~")
        for path in sorted(homes, key=len, reverse=True)
        if path.strip("/")
    ]
    patterns += [
        (re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"), "~")
        for name in sorted(names - _COMMON, key=len, reverse=True)
        if len(name) > 1
    ]
    return tuple(patterns)
