"""The one door to huggingface_hub: a model repository, and every refusal of the Hub as one line.

    hub = Hub("ann/demo-gpt2")
    hub.create(private=True)
    commit = hub.commit(folder, ["config.json"], removed=[], message="Step 80")
    hub.tag("step-80", commit)

The token is the environment's (`HF_TOKEN`) or that of `hf auth login`. huggingface_hub reads it; it is
neither kept here nor shown. `HF_ENDPOINT` names another Hub.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

from kit.errors import ConfigError, RunError, TransferError
from kit.output import log
from kit.output.redaction import redacted
from kit.store.files import git_blob, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_Answer = TypeVar("_Answer")

_RETRIES = 5
_FIRST_WAIT = 2.0  # seconds; each later wait is twice as long
_LONGEST_WAIT = 300.0  # seconds, the window of the Hub's rate limits
_LOGIN = "set HF_TOKEN, or run `hf auth login`, with a token that may write"
_REFUSED, _RATE_LIMIT, _CONFLICT = (401, 403), 429, 409
_SERVER_ERRORS = 500


class Hub:
    """A model repository on the Hub. Methods raise EkidenError; refusals that may pass are tried again."""

    def __init__(self, repository: str) -> None:
        """Raises ConfigError for a name that the Hub would refuse, or without a token."""
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        self.repository = repository
        try:
            validate_repo_id(repository)
        except HFValidationError:
            raise ConfigError(
                f"repository '{repository}': give OWNER/NAME: letters, digits, '.', '_' and '-'"
            ) from None
        if "/" not in repository:
            raise ConfigError(f"repository '{repository}': without its owner; give OWNER/NAME")
        if not get_token():
            raise ConfigError(f"no token of the Hub: {_LOGIN}")
        self._api: Any = HfApi(library_name="ekiden")

    @property
    def url(self) -> str:
        """The page of the repository."""
        return f"{self._api.endpoint}/{self.repository}"

    def create(self, *, private: bool) -> None:
        """Create the repository unless it exists. Raises RunError if it must be private and is public."""
        self._retried(
            lambda: self._api.create_repo(self.repository, private=private, exist_ok=True)
        )
        if private and not self._retried(lambda: self._api.model_info(self.repository)).private:
            raise RunError(
                f"{self.url}: is public; give --public to push there, or make it private first"
            )

    def tags(self) -> dict[str, str]:
        """The commit of each tag."""
        found = self._retried(lambda: self._api.list_repo_refs(self.repository)).tags
        return {tag.name: tag.target_commit for tag in found}

    def files(self, revision: str = "main") -> dict[str, str]:
        """The hash of each file: SHA-256 of a large one, git's of any other."""
        entries = self._retried(
            lambda: list(
                self._api.list_repo_tree(self.repository, recursive=True, revision=revision)
            )
        )
        hashed = [entry for entry in entries if hasattr(entry, "blob_id")]
        return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in hashed}

    def commit(
        self, folder: Path, added: Sequence[str], removed: Sequence[str], message: str
    ) -> str:
        """Upload files and make them one commit; returns its hash.

        Files that the Hub has already, of an upload that broke off or an earlier push, are not sent again.
        Without any change there is no new commit.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        def upload() -> str:
            operations = [
                *(CommitOperationAdd(name, str(folder / name)) for name in added),
                *(CommitOperationDelete(name) for name in removed),
            ]
            made = self._api.create_commit(self.repository, operations, commit_message=message)
            return str(made.oid)

        return self._retried(upload)

    def tag(self, name: str, commit: str) -> None:
        """Tag a commit. Raises RunError if another one has this tag."""
        self._retried(
            lambda: self._api.create_tag(self.repository, tag=name, revision=commit, exist_ok=True)
        )
        if (tagged := self.tags().get(name)) != commit:
            raise RunError(f"{self.url}: tag {name} is that of commit {tagged}; give another --tag")

    def _retried(self, request: Callable[[], _Answer]) -> _Answer:
        """Make a request, again after a broken connection, a conflict or a limit that passes."""
        for number in range(_RETRIES):
            try:
                with _told(self.url):
                    return request()
            except _Passing as error:
                wait = min(error.seconds or _FIRST_WAIT * 2**number, _LONGEST_WAIT)
                log.warning(f"push: {error}; trying again in {wait:.0f} s")
                time.sleep(wait)
        with _told(self.url, last=True):
            return request()


class _Passing(Exception):  # noqa: N818  no error yet
    """A refusal that may pass, and the seconds that the Hub asks to wait."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


def is_same(path: Path, remote: str) -> bool:
    """Whether a file has the hash that `Hub.files` gives."""
    return remote in (sha256(path), git_blob(path))


@contextlib.contextmanager
def _told(url: str, *, last: bool = False) -> Iterator[None]:
    """Turn an error of huggingface_hub into one line of ours."""
    from huggingface_hub.errors import HfHubHTTPError

    http_error: type[Exception] = HfHubHTTPError.__mro__[1]  # of the HTTP client that it uses
    try:
        yield
    except (http_error, ConnectionError, TimeoutError, RuntimeError, ValueError) as raised:
        error = _cause(raised)
        status, said = _status(error), redacted(" ".join(str(error).split()))[:300]
        if status in _REFUSED:
            raise ConfigError(f"{url}: the Hub refuses this token ({status}); {_LOGIN}") from None
        if isinstance(raised, ValueError) and status is None:  # the metadata of the card
            raise RunError(f"{url}: refused: {said}") from None
        if status is None or status in (_RATE_LIMIT, _CONFLICT) or status >= _SERVER_ERRORS:
            if not last:
                raise _Passing(f"{url}: {said}", _asked_to_wait(error)) from None
            raise TransferError(
                f"{url}: {said}; run the same command again: what has arrived is not sent again"
            ) from None
        raise RunError(f"{url}: the Hub refuses this ({status}): {said}") from None


def _cause(error: BaseException) -> BaseException:
    """The error of the request: uploads raise a RuntimeError from it."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _asked_to_wait(error: BaseException) -> float | None:
    """The seconds that an answer asks to wait; None if it does not say."""
    from huggingface_hub.utils import parse_ratelimit_headers

    if (response := getattr(error, "response", None)) is None:
        return None
    if limit := parse_ratelimit_headers(response.headers):
        return float(limit.reset_in_seconds)
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
