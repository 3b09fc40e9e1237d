"""Rows of text files with one ``prompt=answer`` a line, the published format of star graphs, countdown and colourings."""

from __future__ import annotations

from pathlib import Path

from unmask.data.corpus.text_stream import Input, open_text


def read_equations(path: Path, sign: str, form: str) -> list[dict[str, str]]:
    """Return the rows of a file; the prompt keeps its ``=``.

    Args:
        path: the file, compressed or not.
        sign: a character that every prompt has.
        form: an example of a line, for the error.

    Raises:
        ValueError: a line of another form.
    """
    rows = []
    with open_text(Input.of(path)) as file:
        for number, line in enumerate(file, start=1):
            prompt, equals, answer = line.strip().partition("=")
            if not equals or sign not in prompt or not answer:
                raise ValueError(f"{path}, line {number}, is not of the form {form}: {line.strip()[:60]!r}.")
            rows.append({"prompt": prompt + "=", "answer": answer})
    return rows
