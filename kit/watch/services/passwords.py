"""MLflow's user and password, as its clients read them: from variables, or from ~/.mlflow/credentials.

The server takes the same ones for its administrator. So whoever can publish runs can also read them.
"""

from __future__ import annotations

import base64
import configparser
import os
from dataclasses import dataclass
from pathlib import Path

from kit.errors import ConfigError

_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_MIN_LENGTH = 12  # MLflow's


@dataclass(frozen=True)
class Login:
    """A user and a password."""

    user: str
    password: str

    @property
    def header(self) -> dict[str, str]:
        """The header of a request (RFC 7617)."""
        both = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}


def read() -> Login:
    """Read user and password. Raises ConfigError if missing, too short, or readable by others."""
    file = Path.home() / ".mlflow" / "credentials"
    user, password = os.environ.get(_USER), os.environ.get(_PASSWORD)
    if not (user and password):
        user, password = _of_file(file)
    if not (user and password):
        raise ConfigError(
            f"--auth: no user and password; write into {file} (chmod 600) the lines [mlflow], "
            "mlflow_tracking_username = NAME and mlflow_tracking_password = PASSWORD"
        )
    if len(password) < _MIN_LENGTH:
        raise ConfigError(f"--auth: the password needs {_MIN_LENGTH} characters, as MLflow demands")
    return Login(user, password)


def _of_file(file: Path) -> tuple[str | None, str | None]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        others = file.stat().st_mode & 0o077
        parser.read(file, encoding="utf-8")
    except FileNotFoundError:
        return None, None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if others:
        raise ConfigError(f"{file}: other users may read it; type chmod 600 {file}")
    section = "mlflow"
    return tuple(  # type: ignore[return-value]
        parser.get(section, key.lower(), fallback=None) for key in (_USER, _PASSWORD)
    )
