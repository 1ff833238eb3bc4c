"""Whether the MLflow of the recipe answers: a warning at most, as an outage never stops training."""

from __future__ import annotations

import base64
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.output.redaction import without_credentials
from kit.tracking.mlflow import address

if TYPE_CHECKING:
    from pathlib import Path

    from kit.cluster.preflight.finding import Site

_PATIENCE = 5.0  # seconds
_REFUSED = (401, 403)
_LATER = "training goes on without it, and publishes later what MLflow missed"


def mlflow(site: Site) -> Finding:
    """Ask the server for its health, or look at the folder of the sqlite file."""
    tracking = site.recipe.tracking
    if tracking.mlflow is None:
        raise NotChecked("tracking.mlflow=null")
    if tracking.mlflow_by != "job":
        raise NotChecked(f"tracking.mlflow_by={tracking.mlflow_by}: jobs do not use it")
    if (file := address.sqlite_file(site.recipe)) is not None:
        return _of_file(file)
    uri = address.tracking_uri(site.recipe)
    if urllib.parse.urlsplit(uri).scheme not in ("http", "https"):
        raise NotChecked(f"{without_credentials(uri)}: neither a server nor a file")
    return _of_server(uri)


def _of_file(file: Path) -> Finding:
    folder = next(path for path in file.absolute().parents if path.is_dir())
    target = file if file.exists() else folder
    if os.access(target, os.W_OK):
        return Finding("mlflow", "ok", f"{file}: can be written")
    return warning("mlflow", f"{target}: cannot be written", f"change its mode; {_LATER}")


def _of_server(uri: str) -> Finding:
    shown = without_credentials(uri)
    try:
        with urllib.request.urlopen(_request(uri), timeout=_PATIENCE) as answer:  # noqa: S310  http(s) only
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        remedy = f"start it, or see whether this machine reaches it; {_LATER}"
        return warning("mlflow", f"{shown}: no answer ({without_credentials(str(why))})", remedy)
    if status in _REFUSED:
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return warning("mlflow", f"{shown}: refuses this user ({status})", remedy)
    if status >= 500:
        return warning("mlflow", f"{shown}: answers with an error ({status})", "see its log")
    return Finding("mlflow", "ok", f"{shown}: answers")


def _request(uri: str) -> urllib.request.Request:
    """A request for the health of a server, with the user that the URI or the environment names."""
    parts = urllib.parse.urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    url = parts._replace(netloc=place, path=f"{parts.path.rstrip('/')}/health").geturl()
    user = urllib.parse.unquote(parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME", ""))
    password = urllib.parse.unquote(
        parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    )
    request = urllib.request.Request(url)  # noqa: S310  http(s) only
    if user:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
    return request
