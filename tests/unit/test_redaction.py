"""What is shown to strangers has no secrets, user names or homes; the rest of a log stays."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from kit.output import redaction
from kit.output.redaction import redact, redacted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "s3cr3t-Pa55"
HF = "hf_" + "aBcDeFgHiJkLmNoPqR"


@pytest.fixture
def ann(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A user with a home that is a link."""
    (tmp_path / "real").mkdir()
    home = tmp_path / "ann"
    home.symlink_to(tmp_path / "real")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "ann")
    entry = pwd.struct_passwd(("ann", "x", 1000, 1000, "Ann Smith,,,", "/home/ann", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: entry)
    redaction._of.cache_clear()
    yield str(home)
    redaction._of.cache_clear()


@pytest.mark.parametrize(
    "text",
    [
        f"http://ann:{SECRET}@host:5000/#/experiments/1",
        f"postgresql+psycopg2://mlflow:{SECRET}@db/mlflow",
        f"https://{SECRET}@github.com/x/y",
        f"https://host/a?user=1&access_token={SECRET}&b=2",
        f"https://bucket/x?X-Amz-Signature={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"MLFLOW_TRACKING_PASSWORD={SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f"password: {SECRET}",
        f"HF_TOKEN={SECRET}",
        f"export WANDB_KEY='{SECRET}'",
        f'"GOOGLE_CREDENTIALS": "{SECRET}"',
        f"tracking.mlflow=http://u:{SECRET}@[::1]:5000",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"https://discord.com/api/webhooks/1/{SECRET}",
        f"curl -d @- https://hc-ping.com/{SECRET}; true",
        f"https://api.telegram.org/bot1:{SECRET}/sendMessage",
        f"two://a:{SECRET}@b and three://c:{SECRET}@d",
    ],
)
def test_a_secret_is_masked_and_the_rest_stays(text: str, ann: str) -> None:
    shown = redacted(text)
    assert SECRET not in shown
    assert redaction.MASK in shown
    assert redacted(shown) == shown


def test_tokens_are_known_by_their_form(ann: str) -> None:
    for token in (HF, "ghp_" + "x" * 20, "glpat-" + "y" * 20, "AKIA" + "Z" * 16, "sk-" + "a1" * 20):
        assert redacted(f"401 for {token}, sorry") == "401 for ***, sorry"


def test_names_and_homes_are_a_tilde(ann: str) -> None:
    assert redacted(f"{ann}/work/demo: full") == "~/work/demo: full"
    assert redacted(f"{os.path.realpath(ann)}/work") == "~/work"
    assert redacted("/home/ann/x, /home/bob/y, /Users/eve/z") == "~/x, ~/y, ~/z"
    assert redacted("/data/group/ann/work") == "/data/group/~/work"
    assert redacted("job of ann (Ann Smith)") == "job of ~ (~)"
    assert redacted("/home/ann") == "~"
    for other in ("annotation", "/homework/x", "channel", "/data/home2"):
        assert redacted(other) == other


@pytest.mark.parametrize(
    "text",
    [
        "step 60 of 100, loss 5.381, 8,732 tokens/s",
        "perplexity 216.4 a token (a unigram model: 437.0)",
        "tokenizer: done",
        "tokens: 72,886",
        "token: 3",
        "https://dumps.wikimedia.org/jawiki/20220701/x.xml.bz2",
        "tracking.mlflow=sqlite:////data/work/mlflow.db",
        "shards/00001: file.zst has 3 bytes",
    ],
)
def test_what_is_no_secret_stays(text: str, ann: str) -> None:
    assert redacted(text) == text


def test_a_user_whose_name_tells_nothing_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = pwd.struct_passwd(("root", "x", 0, 0, "root", "/root", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: entry)
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.delenv("USER", raising=False)
    redaction._of.cache_clear()
    assert redacted("the root of /root/work and /rooted") == "the root of ~/work and /rooted"
    redaction._of.cache_clear()


def test_a_container_without_a_user_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("USER", raising=False)
    redaction._of.cache_clear()
    assert redacted("/home/ann/x") == "~/x"
    redaction._of.cache_clear()


def test_values_within_lists_and_mappings_are_redacted(ann: str) -> None:
    found = redact({"a": [f"x://u:{SECRET}@h", 3, None], "b": {"c": "/home/ann/d"}})
    assert found == {"a": ["x://***@h", 3, None], "b": {"c": "~/d"}}


def test_addresses_lose_everything_behind_the_host() -> None:
    shown = redaction.without_addresses(
        f'curl -d @- "https://u:{SECRET}@chat.example/{SECRET}?k={SECRET}"; true'
    )
    assert shown == 'curl -d @- "https://***@chat.example/***"; true'
    assert redaction.without_addresses("mail -s x ann@example.org") == "mail -s x ann@example.org"
