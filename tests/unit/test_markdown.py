"""What the tests of the pages read of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.markdown import blocks, statements

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """# A page
```sh
# a comment
ekiden train run demo \\
    training.steps=3   # three
A=1 make demo DUMP=x > log 2>&1 && tail -n 1 log | grep 'a | b'
cat > mine.yaml <<'END'
name: mine
ekiden is no command here
END
ls
```
<!-- needs: a cluster -->
```sh
squeue
```

```text
ekiden prints this
```
- in a list
  ```sh
  ekiden list
  ```
"""


def test_commands_stand_in_blocks_of_sh_with_what_they_need(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    first, marked, listed = blocks(page)
    assert first.commands == [
        ["ekiden", "train", "run", "demo", "training.steps=3"],
        ["make", "demo", "DUMP=x"],
        ["tail", "-n", "1", "log"],
        ["grep", "a | b"],
        ["cat"],
        ["ls"],
    ]
    assert (first.needs, first.place) == (None, "page.md:3")
    assert (marked.needs, marked.commands) == ("a cluster", [["squeue"]])
    assert (listed.needs, listed.commands) == (None, [["ekiden", "list"]])


def test_a_statement_keeps_what_was_written() -> None:
    text = PAGE.partition("```sh\n")[2].partition("```")[0]
    written = [one for one, _ in statements(text)]
    assert "".join(written) == text.partition("\n")[2]
    assert written[2].endswith("END\n")
