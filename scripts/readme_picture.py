"""Draw the README's first picture from the results of ``unmask demo``: a sudoku in two orders, and filled sentences.

    make demo && .venv/bin/python scripts/readme_picture.py

Every digit and figure is read from the runs; the sentences are filled again by the network of the text.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from unmask.cli.decoding import Decoding
from unmask.cli.demos.sudoku_demo import OWN, PICTURE_FILE, RANDOM
from unmask.cli.demos.text_demo import SENTENCES, WORD
from unmask.decode.render.colour import confidence_colour
from unmask.evaluate.sample_metrics import fillings
from unmask.runs import load_run
from unmask.storage import atomic_file, read_json
from unmask.text.filling import fill_texts

INK, SOFT, LINE, WRONG = "#1f2328", "#5d636c", "#d3cfc5", "#a3260f"
WIDTH, HEIGHT = 11.0, 5.6  # inches


def tint(p: float) -> tuple[float, float, float]:
    """Return the colour of a probability, mixed with white so that dark text is legible on it."""
    red, green, blue = (1 - 0.42 * (1 - part / 255) for part in confidence_colour(p))
    return red, green, blue


def draw_board(axes: Any, decode: dict[str, Any], run: dict[str, Any]) -> None:
    """Draw the final board of one order: clues grey, digits on the colour of their probability with the step they were placed in."""
    side, (height, width) = round(len(decode["puzzle"]) ** 0.5), decode["box"]
    placed = {
        token["position"]: (number + 1, token["text"], token["probability"])
        for number, step in enumerate(run["steps"])
        for token in step["unmasked"]
    }
    for cell, clue in enumerate(decode["puzzle"]):
        x, y = cell % side, side - 1 - cell // side
        step, digit, probability = placed.get(cell, (None, clue, None))
        right = digit == decode["solution"][cell]
        face = "#f6f5f2" if probability is None else tint(probability)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=LINE, linewidth=0.8))
        style = {"color": SOFT} if step is None else {"color": INK if right else WRONG, "weight": "bold"}
        axes.text(x + 0.5, y + 0.46, digit, ha="center", va="center", fontsize=19, **style)
        if step is not None:
            axes.text(x + 0.08, y + 0.92, str(step), ha="left", va="top", fontsize=7, color=SOFT)
            if not right:
                axes.plot([x + 0.22, x + 0.78], [y + 0.2, y + 0.74], color=WRONG, linewidth=1.6)
    for line in range(side + 1):
        if line % width == 0:
            axes.plot([line, line], [0, side], color=INK, linewidth=1.6)
        if line % height == 0:
            axes.plot([0, side], [line, line], color=INK, linewidth=1.6)
    axes.set_xlim(-0.05, side + 0.05)
    axes.set_ylim(-0.05, side + 0.05)
    axes.set_aspect("equal")
    axes.set_anchor("W")
    axes.axis("off")


def filled_sentence(run: Path) -> tuple[list[str], list[str], list[float]]:
    """Return the sentence of the demo with the most probable words: its given parts, these words, and their probabilities."""
    loaded = load_run(run, device="cpu")
    rules = Decoding(order="top_prob", temperature=0.0, regex=WORD).rules
    found = []
    for filling in fill_texts(
        loaded.model, loaded.tokenizer, SENTENCES, partial(rules, loaded.model, loaded.tokenizer), top=9
    ):
        words = [word.strip() for word in fillings(filling.prompt, filling.text) or []]
        sure = [
            next((a.probability for a in blank.alternatives if a.token.strip() == word), 0.0)
            for word, blank in zip(words, filling.blanks, strict=True)
        ]
        found.append(([part.strip() for part in filling.prompt.split("[MASK]")], words, sure))
    return max(found, key=lambda each: min(each[2]))


def draw_sentence(
    figure: Figure, left: float, bottom: float, sentence: tuple[list[str], list[str], list[float]]
) -> None:
    """Write one sentence, with the filled words on the colours of their probabilities."""
    parts, words, sure = sentence
    pieces: list[tuple[str, float | None]] = []
    for number, part in enumerate(parts):
        pieces += [(part, None)] if part else []
        pieces += [(words[number], sure[number])] if number < len(words) else []
    renderer = FigureCanvasAgg(figure).get_renderer()
    x, pixels = left, figure.dpi * WIDTH
    for text, probability in pieces:
        gap = 0.0 if text[0] in ".," else 0.008
        x += gap if x > left else 0.0
        label = figure.text(
            x + (0.004 if probability is not None else 0.0), bottom, text, fontsize=14, va="baseline", family="DejaVu Sans Mono",
            color=SOFT if probability is None else INK, weight="normal" if probability is None else "bold", zorder=3,
        )  # fmt: skip
        wide = label.get_window_extent(renderer).width / pixels
        if probability is not None:
            wide += 0.008
            patch = FancyBboxPatch(
                (x, bottom - 0.016), wide, 0.054, boxstyle="round,pad=0,rounding_size=0.006", transform=figure.transFigure,
                facecolor=tint(probability), edgecolor="none", zorder=2,
            )  # fmt: skip
            figure.add_artist(patch)
            figure.text(
                x + wide / 2, bottom - 0.044, f"{probability:.0%}", fontsize=8, ha="center", va="baseline", color=SOFT
            )
        x += wide


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=Path("runs/demo"), help="run of the text")
    parser.add_argument("--sudoku", type=Path, default=Path("runs/demo/sudoku"), help="run of the sudoku")
    parser.add_argument("--out", type=Path, default=Path("docs/unmasking.png"), help="picture")
    options = parser.parse_args()
    decode, report = read_json(options.sudoku / PICTURE_FILE), read_json(options.sudoku / "evaluation.json")
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    blanks = decode["puzzle"].count("0")
    figure.text(
        0.03,
        0.935,
        "One model, one puzzle, two orders of filling: the order decides",
        fontsize=17,
        weight="bold",
        color=INK,
    )
    texts = {OWN: "always the cell it is surest of", RANDOM: "the same model, cells in random order"}
    for number, run in enumerate(decode["runs"]):
        name, left = run["label"], 0.03 + 0.335 * number
        solved = report["orders"][name]["solved"]
        figure.text(
            left,
            0.85,
            f"{solved} of {report['puzzles']}",
            fontsize=19,
            weight="bold",
            color=INK if name == OWN else WRONG,
        )
        figure.text(left + 0.136, 0.85, "puzzles solved", fontsize=13, color=INK)
        figure.text(left, 0.808, texts[name], fontsize=11, color=SOFT)
        draw_board(figure.add_axes((left, 0.25, 0.29, 0.54)), decode, run)
    left = 0.715
    notes = (
        "Trained on solved grids only:",
        "no puzzle and no rule was given.",
        "",
        f"One puzzle, {blanks} blanks, one cell a step.",
        "Small numbers: the step of a cell.",
        "Grey: given. Struck out: wrong.",
        "",
        "Colour: probability of the digit",
    )
    for line, note in enumerate(notes):
        figure.text(left, 0.74 - 0.047 * line, note, fontsize=11, color=INK if line < 2 else SOFT)
    scale = figure.add_axes((left, 0.352, 0.2, 0.028))
    scale.imshow([[tint(n / 99) for n in range(100)]], aspect="auto", extent=(0, 1, 0, 1))
    scale.set_yticks([])
    scale.set_xticks([0, 0.5, 1], ["0", "½", "1"], fontsize=9, color=SOFT)
    scale.tick_params(length=0)
    for spine in scale.spines.values():
        spine.set_visible(False)
    figure.text(
        0.03,
        0.185,
        "The same on text: words at the blanks of a sentence, with their probabilities",
        fontsize=12,
        color=INK,
    )
    draw_sentence(figure, 0.03, 0.09, filled_sentence(options.text))
    with atomic_file(options.out) as temporary:
        figure.savefig(temporary, format="png")
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    main()
