"""Suggest a known word for an unknown one: its new name if it was renamed, otherwise the nearest spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

RENAMED = {
    # objective
    "level": "mask_rate_law",
    "choice": "selection",
    "exact_count": "selection",
    "times": "time_sampling",
    "lowest": "rate_min",
    "highest": "rate_max",
    "grain": "granularity",
    "mask_rate": "mask_replace_prob",
    "random_rate": "random_replace_prob",
    "start_probability": "mask_rate_start",
    "curriculum": "mask_rate_warmup",
    "span_longest": "span_max_length",
    "coins": "bernoulli",
    "count": "fixed_count",
    # model
    "neighbour_layers": "local_init_layers",
    # decoding
    "apart": "non_adjacent",
    "keep_surest": "mask_predict",
    "one_by_one": "first_hitting",
    "late_eos": "eos_last",
    "adjustments": "logits_processors",
    # public names
    "bound": "nelbo",
    "unmask": "fill_canvas",
}
"""Words of earlier versions, without their section, and what they are called now."""


def nearest(word: str, known: Iterable[str], separators: str = "/:") -> str:
    """Suggest one of the known words.

    Only what follows the last separator is compared, so that files of one folder are not alike for their folder. Of equal
    names the first is suggested.

    Args:
        word: the unknown word.
        known: the words to choose from.
        separators: characters between the parts of a word.

    Returns:
        `` It is now called 'x'.``, `` Did you mean 'x'?``, or nothing if no known word is close.
    """
    last = re.compile(f"[{re.escape(separators)}]")
    names: dict[str, str] = {}
    for each in known:
        names.setdefault(last.split(each)[-1], each)
    name = last.split(word)[-1]
    if RENAMED.get(name) in names:
        return f" It is now called '{names[RENAMED[name]]}'."
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f" Did you mean '{names[close[0]]}'?" if close else ""
