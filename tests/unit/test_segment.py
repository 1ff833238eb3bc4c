"""Words: what a segmenter is given, MeCab with a mended dictionary, and which one is meant."""

from __future__ import annotations

from pathlib import Path

import fugashi
import jumandic as package
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.corpus import segment
from kit.corpus.segmenters import jumandic
from kit.corpus.segmenters.chunking import LONG_RUN, WHITE_SPACE, Chunk, chunks, has_long_run
from kit.corpus.segmenters.mecab import LONGEST, MeCab
from kit.errors import ClusterError

BROKEN = "でっ"  # the package's own dictionary has a word of its first four bytes
TEXTS = st.text(
    st.one_of(
        st.sampled_from("日本語東京都あいうえおのはがをカタカナー。、！「」ABcd12"),
        st.characters(exclude_characters=" \n"),
        st.sampled_from("\t\r\0\x0b\x0c\x1c\x85\xa0\u2028\u3000\u200b\ufeff\u0301\ud800𠮷"),
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture(scope="module")
def mecab() -> MeCab:
    made = segment.open("mecab", None, 1)
    assert isinstance(made, MeCab)
    return made


def words(segmenter: segment.Segmenter, *texts: str) -> list[str]:
    return next(segmenter.stream([texts]))


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 12), st.integers(0, 12))
def test_pieces_joined_are_the_text_and_short_enough(
    text: str, longest_run: int, more: int
) -> None:
    longest = longest_run + more
    pieces = list(chunks(text, longest, longest_run))
    assert "".join(piece.text for piece in pieces) == text
    for piece in pieces:
        assert piece.text
        if not piece.unsegmented:
            assert len(piece.text) <= longest
            assert not has_long_run(piece.text, longest_run)


def test_long_text_is_cut_after_punctuation_else_where_the_characters_change() -> None:
    assert list(chunks("駅伝、です。カタカナ", 8, 8)) == [("駅伝、です。", ""), ("カタカナ", "")]
    assert list(chunks("駅伝ですカタカナ", 6, 6)) == [("駅伝です", ""), ("カタカナ", "")]


def test_runs_and_white_space_stay_whole_between_the_pieces() -> None:
    assert list(chunks("東京\u3000\0都aaaaaい", 4, 4)) == [
        Chunk("東京", ""),
        Chunk("\u3000\0", WHITE_SPACE),
        Chunk("都", ""),
        Chunk("aaaaa", LONG_RUN),
        Chunk("い", ""),
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(TEXTS, max_size=4), max_size=4))
def test_the_words_of_mecab_are_the_text(mecab: MeCab, batches: list[list[str]]) -> None:
    answers = list(mecab.stream(batches))
    assert [[answer.replace(" ", "") for answer in batch] for batch in answers] == batches
    for answer in (answer for batch in answers for answer in batch):
        assert all(answer.split(" "))


def test_mecab_answers_as_its_tagger_does_where_nothing_is_odd(mecab: MeCab) -> None:
    tagger = fugashi.GenericTagger(f"-Owakati {package.MECAB_ARGS}")
    texts = ["霧浜県は海に面した県である。", "Linux6.1を使う", "「はい。いいえ。」と言った！？"]
    before = mecab.unsegmented.total()
    assert words(mecab, *texts) == [tagger.parse(text) for text in texts]
    assert mecab.unsegmented.total() == before


def test_a_word_of_half_a_character_is_not_in_the_dictionary(mecab: MeCab) -> None:
    with pytest.raises(UnicodeDecodeError):
        fugashi.GenericTagger(f"-Owakati {package.MECAB_ARGS}").parse(BROKEN)
    assert words(mecab, BROKEN) == ["で っ"]


def test_what_comes_back_damaged_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jumandic, "without_broken", lambda raw: None)  # as of an unknown format
    damaged = MeCab(tmp_path)
    assert words(damaged, "東京都", BROKEN) == ["東京 都", BROKEN]
    assert damaged.unsegmented == {"changed": 1}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("東京\t都", WHITE_SPACE),
        ("一\0二", WHITE_SPACE),
        ("駅伝\u3000", WHITE_SPACE),
        ("駅\ud800伝", WHITE_SPACE),
        ("い" + "a" * LONGEST, LONG_RUN),
        ("が" + "\u0301" * 1_000_000, LONG_RUN),
    ],
)
def test_what_mecab_would_change_or_choke_on_is_counted(
    mecab: MeCab, text: str, reason: str
) -> None:
    before = mecab.unsegmented[reason]
    (answer,) = words(mecab, text)
    assert answer.replace(" ", "") == text
    assert mecab.unsegmented[reason] == before + 1
    assert answer.split(" ")[0] != text


def test_a_chunk_of_megabytes_takes_no_more_than_a_piece_of_it(mecab: MeCab) -> None:
    def peak() -> int:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    sentence = "東京都に行くことができるのであろう。"
    words(mecab, sentence * 200)
    before = peak()
    text = sentence * 15_000  # 0.8 MB: uncut, its lattice takes 400 MB
    assert words(mecab, text)[0].replace(" ", "") == text
    assert peak() - before < 100


def test_the_mended_dictionary_is_made_once_and_whole(tmp_path: Path) -> None:
    made = jumandic.folder(tmp_path / "cache")
    assert jumandic.folder(tmp_path / "cache") == made
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [made.name]
    assert {path.name for path in made.iterdir()} == {
        path.name for path in Path(package.DICDIR).iterdir()
    }
    before, after = (
        np.fromfile(Path(folder, "sys.dic"), "<u4") for folder in (package.DICDIR, made)
    )
    assert np.count_nonzero(before != after) == 3  # a surface each


def test_the_task_that_comes_second_takes_the_dictionary_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/dicrc").write_text("a")
    made = tmp_path / "cache/jumandic-1"
    jumandic._make(made, tmp_path / "package", b"first")
    jumandic._make(made, tmp_path / "package", b"second")
    assert (made / "sys.dic").read_bytes() == b"first"
    assert [path.name for path in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, b"MeCab" * 100])
def test_a_dictionary_of_an_unknown_format_is_used_as_it_is(damage: bytes) -> None:
    assert jumandic.without_broken(damage) is None


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match=r"file/jumandic-.*cannot write a copy.*TMPDIR"):
        jumandic.folder(tmp_path / "file")


def test_mecab_is_asked_once_for_a_chunk_that_recurs(
    mecab: MeCab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    parse = mecab._engine.parse

    def counted(text: str) -> str:
        asked.append(text)
        return parse(text)

    monkeypatch.setattr(mecab._engine, "parse", counted)
    monkeypatch.setattr(mecab, "_known", {})
    monkeypatch.setattr(mecab, "_size", 0)
    monkeypatch.setattr(mecab, "_unseen", 0)
    first, second = mecab.stream([["駅伝", "走者", "駅伝", ""], ["走者", "走者が走る", ""]])
    assert (first, second) == (["駅伝", "走者", "駅伝", ""], ["走者", "走者 が 走る", ""])
    assert sorted(asked) == sorted(["駅伝", "走者", "走者が走る", ""])


def test_where_nothing_recurs_most_batches_are_asked_for_without_a_look(
    mecab: MeCab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mecab, "_known", {})
    monkeypatch.setattr(mecab, "_size", 0)
    monkeypatch.setattr(mecab, "_unseen", 0)
    batches = [[f"{number}番目の走者", f"{number}人が走る"] for number in range(20)]
    batches[3] *= 2  # not looked at: asked for twice
    batches[4].append("a" * (LONGEST + 1))  # has to be looked at
    words = [*mecab.stream(batches)]
    assert [["".join(text.split(" ")) for text in row] for row in words] == batches
    assert words[3] == ["3 番 目 の 走者", "3 人 が 走る"] * 2
    looked_at = [0, 4, 12]
    assert [*mecab._known] == [t for n in looked_at for t in batches[n] if len(t) <= LONGEST]
    [*mecab.stream([["同じ走者"] * 10] * 10)]
    assert mecab._unseen == 0  # it has become worth it


def test_what_is_kept_of_chunks_is_bounded(mecab: MeCab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.corpus.segmenters.mecab._KEPT", 1000)
    monkeypatch.setattr(mecab, "_known", {})
    monkeypatch.setattr(mecab, "_size", 0)
    monkeypatch.setattr("kit.corpus.segmenters.mecab._UNSEEN", 0)
    monkeypatch.setattr(mecab, "_unseen", 0)
    for number in range(300):
        list(mecab.stream([[f"{number}番目の走者"]]))
        assert sum(map(len, mecab._known)) <= 1000 + 10


def test_a_chunk_that_stays_whole_is_counted_each_time(mecab: MeCab) -> None:
    chunk = "a" * (LONGEST + 1)
    before = mecab.unsegmented[LONG_RUN]
    for _ in range(2):
        assert list(mecab.stream([[chunk, "駅伝", chunk]])) == [[chunk, "駅伝", chunk]]
    assert mecab.unsegmented[LONG_RUN] == before + 4
