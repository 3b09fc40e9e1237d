"""The model card: metadata that the Hugging Face hub reads, and what a user has to know.

Every statement comes from the run's configuration and from its report; what is not known is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.config.mixture import Mixture
from unmask.config.tree import Config
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.runs import LoadedRun
from unmask.storage import read_json

_PAPERS = {
    "diffusion": "masked diffusion (MDLM, 2406.07524; LLaDA, 2502.09992)",
    "block_diffusion": "block diffusion (BD3-LM, 2503.09573)",
    "blockwise": "blockwise masking with more masks to the right of a block",
    "maskgit": "MaskGIT (2202.04200)",
    "bert": "BERT (1810.04805)",
    "spanbert": "SpanBERT (1907.10529)",
}
_UNITS = (("bits_per_byte", "bits per byte"), ("bits_per_word", "bits per word"), ("bits_per_token", "bits per token"))

CARD = """{front}
# {title}

A masked language model with {parameters:,} parameters, trained with `unmask`. It fills masked tokens, embeds text and generates by
iterative unmasking.

## Use

The code of the model is in this folder, so transformers asks for `trust_remote_code=True`. Where `unmask` is installed,
`import unmask.export; unmask.export.register()` replaces it.

```python
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

name = {name}
fill = pipeline("fill-mask", model=name, trust_remote_code=True)
print(fill({example})[0])

tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
model = AutoModelForMaskedLM.from_pretrained(name, trust_remote_code=True)
prompt = tokenizer({prompt}, return_tensors="pt")
ids = model.diffusion_generate(prompt.input_ids, prompt.attention_mask, max_new_tokens=16, steps=8)
print(tokenizer.decode(ids[0], skip_special_tokens=True))

encoder = AutoModel.from_pretrained(name, trust_remote_code=True)
states = encoder(**prompt).last_hidden_state[0]  # [tokens, {width}]
print(states.mean(0)[:4])
```

Pad prompts of different lengths on the left (`padding_side="left"`) to generate, on either side otherwise. sentence-transformers reads
the folder too, with mean pooling.

## Training

| | |
|---|---|
| data | {data} |
| objective | {objective} |
| tokenizer | {vocabulary:,} tokens; mask token `{mask}` |
| network | {network} |
| optimiser steps | {step:,}, {rows} rows of up to {block} tokens each |
| licence | {license} |

## Likelihood

{bound}

## Decoding

The network has no preferred order. `diffusion_generate` fixes the most confident positions first (`unmask generate --order top_prob
--temperature 0`), and `temperature` and `steps` change that. {attention}

## Limits

The model repeats what its data holds, mistakes and prejudices included. Rows are at most {longest} tokens.
"""


def hub_card(loaded: LoadedRun, name: str, license: str | None = None) -> str:
    """Return the text of the model card.

    Args:
        loaded: the trained model.
        name: the folder's or the repository's, as a user would load it.
        license: identifier such as ``apache-2.0``; None = not stated.

    Returns:
        Markdown with a YAML header.
    """
    config, tokenizer, network = loaded.config, loaded.tokenizer, loaded.model
    assert isinstance(network, RotaryTransformerMLMModel)
    mask = tokenizer.mask_token or "[MASK]"
    traces = tokenizer.next_token_id is not None
    front = {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        **({} if license is None else {"license": license}),
        "mask_token": mask,
        "tags": ["masked-lm", "masked-diffusion", "unmask", "custom_code"],
    }
    block = network.causal_block
    return CARD.format(
        front="---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---\n",
        title=name.rpartition("/")[2],
        parameters=sum(p.numel() for p in network.parameters()),
        name=json.dumps(name),
        example=json.dumps(f"push {mask}" if traces else f"This is a {mask}."),
        prompt=json.dumps("push rbp" if traces else "This is"),
        width=network.width,
        data=_cell(_data(config)),
        objective=_cell(_objective(config)),
        vocabulary=len(tokenizer),
        mask=_cell(mask),
        network=f"{config.model.num_layers} layers of width {config.model.d_model}, {config.model.nhead} heads, rotary positions",
        step=loaded.step,
        rows=config.train.batch_size,
        block=config.data.block_size,
        license=_cell(license or "not stated"),
        bound=_bound(loaded),
        attention=""
        if block is None
        else f"Attention is block-causal: a token attends to its own block of {block} positions and to all earlier ones.",
        longest=network.max_length,
    )


def _cell(text: str) -> str:
    """Return a text for one cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def _data(config: Config) -> str:
    held_out = (
        f"{config.data.valid_fraction:.0%} of the bytes"
        if config.data.valid_source is None
        else config.data.valid_source
    )
    mixture = Mixture.parse(config.data.source)
    names = {config.data.source: None} if mixture is None else mixture.weights
    sources = (
        f"`{Path(each).name or each}`" + (f" (weight {w})" if w is not None else "") for each, w in names.items()
    )
    return f"{', '.join(sources)} (validation: {held_out})"


def _objective(config: Config) -> str:
    objective = config.objective
    rate = (
        f"mask rate of the {objective.schedule} schedule at a random time"
        if objective.mask_rate_law == "schedule"
        else f"mask rate {objective.probability:.0%}"
    )
    return f"`{objective.name}`: {_PAPERS[objective.name]}; {rate}, weighting `{objective.weighting}`"


def _bound(loaded: LoadedRun) -> str:
    """Return the validation bound with its interval from the run's report, or how to compute it."""
    file = loaded.folder.parent.parent / "evaluation.json"
    report = read_json(file) if file.is_file() else None
    found: Mapping[str, Any] | None = None
    if isinstance(report, dict) and report.get("step") == loaded.step:
        found = report.get("models", {}).get("trained")
        if answers := report.get("answers"):
            match, nats = answers["exact_match"], answers["nats_per_token"]
            return (
                f"Of {answers['rows']:,} held-out answers, {match['value']:.1%} are decoded exactly (greedily, 95% interval "
                f"{match['low']:.1%} to {match['high']:.1%}); upper bound on the negative log-likelihood given the prompts: "
                f"{nats['value']:.3f} nats per token."
            )
    if not found:
        return "Not measured. `unmask evaluate --model RUN` computes an upper bound on the negative log-likelihood of held-out text."
    lines = []
    for key, unit in _UNITS:
        if key in found:
            value, low, high = (found[key][part] for part in ("value", "low", "high"))
            interval = "" if low is None else f" (95% interval {low:.3f} to {high:.3f})"
            lines.append(f"- {value:.3f} {unit}{interval}")
    documents, tokens = found["documents"], found["tokens"]
    return (
        f"Upper bound on the negative log-likelihood of {documents:,} held-out documents ({tokens:,} tokens):\n\n"
        + "\n".join(lines)
    )
