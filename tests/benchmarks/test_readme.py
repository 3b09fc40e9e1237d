"""The README's figures are replaced, and nothing else is."""

from pathlib import Path

import pytest
from benchmarks.readme import BEGIN, END, HEADLINES, SERVICE, headlines, refresh, with_figures

from unmask.measure.report_table import Row

TEXT = f"# Name\n\nwords\n\n{BEGIN}\nold\n{END}\n\nmore words\n"


def test_only_what_stands_between_the_markers_changes():
    assert with_figures(TEXT, "| a |\n") == TEXT.replace("old", "| a |")


def test_the_same_again_changes_nothing():
    once = with_figures(TEXT, "| a |\n|---|\n")
    assert with_figures(once, "| a |\n|---|\n") == once
    assert with_figures(with_figures(TEXT, "other"), "| a |\n|---|\n") == once


@pytest.mark.parametrize("text", ["no markers", BEGIN, f"{END} {BEGIN}", TEXT + BEGIN, TEXT + TEXT])
def test_a_text_without_its_place_is_refused(text, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(ValueError, match="bench:begin"):
        refresh(file, "table")
    assert file.read_text() == text


def test_a_table_with_a_marker_is_refused():
    with pytest.raises(ValueError, match="contains a marker"):
        with_figures(TEXT, f"| {END} |")


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_the_page_has_a_place_for_figures(page):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert with_figures(text, "x") != text
    assert with_figures(text, "x", SERVICE) != text


def test_blocks_are_independent():
    both = f"{TEXT}{with_figures('<!-- service:begin --><!-- service:end -->', 'load', SERVICE)}\n"
    assert with_figures(both, "a") == both.replace("old", "a") and with_figures(both, "b", SERVICE) == both.replace(
        "load", "b"
    )


def test_headlines_are_in_the_order_of_the_readme_and_rows_not_measured_are_left_out():
    rows = [Row.single(work, beside, 1.0) for work, beside in (*reversed(HEADLINES[1:]), ("other", "peer"))]
    assert [(row.work, row.beside) for row in headlines(rows)] == list(HEADLINES[1:])
