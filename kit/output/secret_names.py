"""Names of environment variables that hold secrets.

is_secret("AWS_SECRET_ACCESS_KEY")  # True
"""

from __future__ import annotations

_WORDS = {
    "TOKEN",
    "TOKENS",
    "SECRET",
    "SECRETS",
    "KEY",
    "KEYS",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
}
_ENDS = ("PASSWORD", "PASSWD", "PASSPHRASE")
_NO_VALUE = {"PATH", "FILE", "DIR"}  # they say where it is


def is_secret(name: str) -> bool:
    """Whether a variable of that name holds a secret, by its words."""
    words = name.upper().split("_")
    return words[-1] not in _NO_VALUE and any(
        word in _WORDS or word.endswith(_ENDS) for word in words
    )
