"""Diffusion language models published with their own code: what their papers and cards say, by the name of the class.

    mask_id        id of the mask, where neither tokenizer nor config has one; negative = counted from the last id
    shift          the prediction of token i is read at token i - 1, and that of the first token at itself
    block_length   block diffusion: a token attends to its own block and to earlier ones, by a mask the caller makes

A claim is checked where it can be: attention by changing tokens (``published_call``), the shift by reading text
(``shift_evidence``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unmask.registry import Registry


@dataclass(frozen=True)
class DiffusionLM:
    """How a published class is used; see the module."""

    mask_id: int | None = None
    shift: bool | None = None
    block_length: int | None = None

    @classmethod
    def of(cls, config: Any) -> DiffusionLM:
        """Return what is known of a config's class, with the facts that the config itself states."""
        name = next(iter(getattr(config, "architectures", None) or ()), "")
        known = DIFFUSION_LMS[name] if name in DIFFUSION_LMS else cls()
        mask, block = getattr(config, "mask_token_id", None), getattr(config, "block_length", None)
        mask = known.mask_id if mask is None else mask
        if mask is not None and mask < 0:
            mask += int(config.get_text_config().vocab_size)
        return cls(mask, known.shift, known.block_length if block is None else int(block))


DIFFUSION_LMS: Registry[DiffusionLM] = Registry(
    "diffusion language model",
    {
        "LLaDAModelLM": (DiffusionLM(126336, False), "LLaDA (2502.09992): bidirectional"),
        "DreamModel": (DiffusionLM(shift=True), "Dream (2508.15487): bidirectional, shifted logits"),
        "LLaDA2MoeModelLM": (DiffusionLM(156895, False, 32), "LLaDA2: block diffusion, blocks of 32"),
        "MDLM": (DiffusionLM(-1, False), "MDLM (2406.07524): bidirectional, the mask is the last id"),
    },
)
