"""Suggestions for unknown words: the current name of a renamed word, otherwise the nearest spelling."""

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
"""Former name -> current name of config keys, config values, options and public names, without their section."""


def nearest(word: str, known: Iterable[str], separators: str = "/:") -> str:
    """Return a sentence that names the known word nearest to an unknown one.

    Only the part after the last separator is compared, so that a common folder or section does not make words similar. Of
    equal names the first one is suggested.

    Args:
        word: the unknown word.
        known: the known words.
        separators: characters that separate the parts of a word.

    Returns:
        `` It is now called 'x'.``, `` Did you mean 'x'?``, or the empty string if no known word is near.
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
