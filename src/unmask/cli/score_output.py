"""Scores as rows per sentence, word or token, and as tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.cli.row_files import write_rows
from unmask.cli.screen import note, print_json, print_json_line, show, table
from unmask.evaluate.minimal_pairs import PairScore, pair_accuracy
from unmask.evaluate.scoring import TextScore, TokenScore


def rows_per(scores: Sequence[TextScore], per: str) -> list[dict[str, Any]]:
    """Return one JSON object per sentence, word or token.

    Args:
        scores: of the texts.
        per: ``sentence``, ``word`` or ``token``.

    Raises:
        ValueError: words or tokens of scores that are of a text as a whole, or words of tokens that are unknown.
    """
    if per == "sentence":
        return [score.as_dict() for score in scores]
    if any(score.scored and not score.tokens for score in scores):
        raise ValueError(
            f"--per {per} needs a score of every token, and --bound and --exact score the text as a whole: leave them out, or leave --per out."
        )
    return [row for score in scores for row in (_words if per == "word" else _tokens)(score)]


def _tokens(score: TextScore) -> list[dict[str, Any]]:
    return [
        {"id": score.id, "token": number, "text": each.text, "token_id": each.id, "word": each.word} | _figures([each])
        for number, each in enumerate(score.tokens)
    ]


def _words(score: TextScore) -> list[dict[str, Any]]:
    if any(each.word is None for each in score.tokens):
        raise ValueError(
            f"--per word: the words of {score.id or score.text[:40]!r} are unknown, because its ids are not those of its text. Choose --per token."
        )
    rows = []
    for word, group in itertools.groupby(score.tokens, key=lambda each: each.word):
        members = list(group)
        text = _joined([each.text for each in members])
        rows.append({"id": score.id, "word": word, "text": text.strip()} | _figures(members))
    return rows


def _joined(pieces: Sequence[str]) -> str:
    """Join the characters of tokens; the bytes of one character each have it as their text."""
    one = len(pieces) > 1 and len(set(pieces)) == 1 and not pieces[0].isascii()
    return pieces[0] if one else "".join(pieces)


def _figures(tokens: Sequence[TokenScore]) -> dict[str, Any]:
    nats = math.fsum(each.nats for each in tokens)
    size = len(_joined([each.text for each in tokens]).encode())
    return {"nats": nats, "bits": nats / math.log(2), "tokens": len(tokens), "bytes": size}


def print_scores(
    kind: str, scores: Sequence[TextScore], *, per: str, out: Path | None, as_json: bool, as_lines: bool
) -> None:
    """Print scores, or write them to a file.

    Args:
        kind: name of the score.
        scores: of the texts.
        per: ``sentence``, ``word`` or ``token``.
        out: file of the rows; None = standard output.
        as_json, as_lines: print JSON instead of a table.
    """
    rows = rows_per(scores, per)
    _print_rows(rows, {"score": kind}, out, as_json, as_lines)
    if out is not None or as_json or as_lines:
        return
    if per == "sentence":
        _sentences(kind, scores)
    else:
        cells = [
            [str(row["text"]), _figure(row["nats"], 3), _figure(row["bits"], 3), str(row["tokens"])] for row in rows
        ]
        table(f"{kind}, nats per {per} (higher is more likely)", [per, "nats", "bits", "tokens"], cells)
    _remarks(scores)


def _print_rows(
    rows: list[dict[str, Any]], about: dict[str, Any], out: Path | None, as_json: bool, lines: bool
) -> None:
    if out is not None:
        write_rows(out, rows)
        note(f"Wrote {len(rows):,} rows to {out}.")
    if lines:
        for row in rows:
            print_json_line(row)
    elif as_json:
        print_json(about | {"rows": rows})


def _sentences(kind: str, scores: Sequence[TextScore]) -> None:
    sampled = kind == "log-likelihood bound"
    cells = [
        [
            s.text,
            _figure(s.nats, 2),
            *([_figure(s.error, 2)] if sampled else []),
            _figure(s.per_token, 3),
            str(s.scored + s.unscored),
            str(s.unscored),
        ]
        for s in scores
    ]
    columns = ["text", "total", *(["±"] if sampled else []), "per token", "tokens", "unscored"]
    error = "; ± = Monte Carlo standard error" if sampled else ""
    table(f"{kind}, nats (higher is more likely{error})", columns, cells)


def _remarks(scores: Sequence[TextScore]) -> None:
    if unscored := sum(s.unscored > 0 for s in scores):
        show(f"{unscored} of {len(scores)} texts have unknown words: these cost nothing, so the score is too high.")
    if altered := sum(not s.exact for s in scores):
        show(
            f"{altered} of {len(scores)} scores are not of the exact text: its tokens spell another one (unknown words, lower case or lost spaces).",
        )


def print_pairs(kind: str, scores: Sequence[PairScore], *, out: Path | None, as_json: bool, as_lines: bool) -> None:
    """Print the accuracy of minimal pairs by phenomenon and paradigm, and write or print their scores."""
    groups = {by: pair_accuracy(scores, by) for by in ("phenomenon", "paradigm")}
    total = groups["paradigm"].pop("all")
    groups["phenomenon"].pop("all")
    accuracy = {by: {name: each.as_dict() for name, each in found.items()} for by, found in groups.items()}
    _print_rows(
        [score.as_dict() for score in scores],
        {"score": kind, "accuracy": total.as_dict(), **{f"accuracy_by_{by}": found for by, found in accuracy.items()}},
        out,
        as_json,
        as_lines,
    )
    if as_json or as_lines:
        return
    counts = {by: _counts(scores, by) for by in groups}
    for by, found in groups.items():
        if found and (by == "paradigm" or len(found) > 1):
            cells = [[name, str(counts[by][name]), *_percent(each)] for name, each in found.items()]
            table(
                f"minimal pairs by {by}, {kind} (ties count half; 95% interval)",
                [by, "pairs", "accuracy", "interval"],
                cells,
            )
    overall, interval = _percent(total)
    show(f"{overall} of {len(scores):,} pairs have the higher score on the good sentence (95% interval {interval}).")
    if ties := sum(score.success == 0.5 for score in scores):
        show(f"{ties} of {len(scores):,} pairs are ties, which count half.")
    if unknown := sum(score.good.unscored > 0 or score.bad.unscored > 0 for score in scores):
        show(
            f"{unknown} of {len(scores):,} pairs have unknown words: these cost nothing, so the scores are not comparable."
        )


def _counts(scores: Sequence[PairScore], by: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for score in scores:
        name = getattr(score.pair, by)
        counts[name] = counts.get(name, 0) + 1
    return counts


def _percent(estimate: Any) -> tuple[str, str]:
    return f"{estimate.value:.1%}", f"{estimate.low:.1%} to {estimate.high:.1%}"


def _figure(number: float, digits: int) -> str:
    """Format a number for a table; a dash for NaN."""
    return f"{number:.{digits}f}" if math.isfinite(number) else "-"
