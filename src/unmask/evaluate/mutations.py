"""Effects of mutations by masked marginals (Meier et al. 2021): log-probability of the new residue minus that of the old one.

The residue of the wild type is masked alone, and its position gives the log-probabilities of all residues. A mutant
with several mutations has the sum of their effects. Mutants are written as in ProteinGym: ``M1A``, ``M1A:K2C``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.estimate import Estimate
from unmask.evaluate.hidden import Progress
from unmask.nn.modes import eval_mode

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
_MUTATION = re.compile(r"([A-Z])(\d+)([A-Z])")


@dataclass(frozen=True)
class MutationEffects:
    """The effects of all single mutations of a sequence.

    Attributes:
        wild_type: the sequence.
        log_probs: float64 ``[len(wild_type), 20]``, nats, of the residues in the order of ``RESIDUES`` at each masked position.

    Examples:
        >>> import numpy as np
        >>> effects = MutationEffects("MK", np.log(np.full((2, 20), 0.05)))
        >>> effects.of("M1A:K2C"), effects.single.shape
        (0.0, (2, 20))
    """

    wild_type: str
    log_probs: NDArray[np.float64]

    @cached_property
    def single(self) -> NDArray[np.float64]:
        """The effect of every single mutation, ``[L, 20]``; 0 where the residue is that of the wild type."""
        known = [RESIDUES.find(residue) for residue in self.wild_type]
        own = np.array([row[at] if at >= 0 else np.nan for row, at in zip(self.log_probs, known, strict=True)])
        effects: NDArray[np.float64] = self.log_probs - own[:, None]
        return effects

    def of(self, mutant: str) -> float:
        """Return the effect of a mutant: the sum over its mutations, in nats.

        Args:
            mutant: mutations such as ``M1A``, separated by colons.

        Raises:
            ValueError: no mutation, a position outside the sequence, or another residue at it.
        """
        total = 0.0
        for mutation in mutant.split(":"):
            match = _MUTATION.fullmatch(mutation.strip())
            if match is None or match[1] not in RESIDUES or match[3] not in RESIDUES:
                raise ValueError(
                    f"The mutant {mutant!r} has the mutation {mutation!r}, and one is written as the old residue, its position from 1 and "
                    "the new residue, such as M1A; several are joined by colons, M1A:K2C."
                )
            old, place, new = match[1], int(match[2]) - 1, match[3]
            if not 0 <= place < len(self.wild_type) or self.wild_type[place] != old:
                found = self.wild_type[place] if 0 <= place < len(self.wild_type) else "no residue"
                raise ValueError(
                    f"The mutant {mutant!r} has {old} at position {place + 1}, where the wild type of {len(self.wild_type)} residues has "
                    f"{found}. Give the wild type of the measurements (--wild-type); positions count from 1."
                )
            total += float(self.single[place, RESIDUES.index(new)])
        return total


def mutation_effects(
    model: MLMModel, tokenizer: Any, wild_type: str, *, batch_tokens: int = 16384, progress: Progress | None = None
) -> MutationEffects:
    """Return the effects of all single mutations of a sequence, one masked position per row of the network.

    Args:
        model: a network trained on residues as tokens.
        tokenizer: its tokenizer, one token a residue.
        wild_type: the sequence.

    Other Parameters:
        batch_tokens: tokens per forward pass.
        progress: callback ``(positions done, all positions)``.

    Raises:
        ValueError: the tokenizer does not encode each residue as one token.
    """
    special, ids = SpecialIds.of(tokenizer), tokenizer.encode(wild_type)
    residues = [tokenizer.encode(residue) for residue in RESIDUES]
    if len(ids) != len(wild_type) or any(len(each) != 1 for each in residues):
        raise ValueError(
            f"The wild type has {len(wild_type)} residues and {len(ids)} tokens, and mutations need one token a residue. Train on "
            "sequences with data.tokenizer=characters."
        )
    end = [] if special.eos is None else [special.eos]
    row = torch.tensor(ids + end, device=device_of(model))
    columns = torch.tensor([each[0] for each in residues])
    at_once, found = max(1, batch_tokens // len(row)), []
    with eval_mode(model), torch.inference_mode():
        for start in range(0, len(ids), at_once):
            places = torch.arange(start, min(start + at_once, len(ids)), device=row.device)
            masked = row.repeat(len(places), 1)
            masked[torch.arange(len(places), device=row.device), places] = special.mask
            logits = model(masked)[torch.arange(len(places), device=row.device), places]
            found.append(logits.float().log_softmax(-1).cpu()[:, columns].double())
            if progress is not None:
                progress(int(places[-1]) + 1, len(ids))
    return MutationEffects(wild_type, torch.cat(found).numpy())


def ranks(values: Float[np.ndarray, "*rows cases"]) -> NDArray[np.float64]:
    """Return the ranks from 0 along the last axis; ties have their mean rank."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim > 1:
        return np.stack([ranks(row) for row in values])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: NDArray[np.float64] = (np.cumsum(counts) - counts + (counts - 1) / 2)[inverse]
    return mean


def spearman(first: Sequence[float], second: Sequence[float], samples: int = 1000, seed: int = 0) -> Estimate:
    """Return Spearman's rank correlation with its 95% bootstrap interval over the pairs.

    Args:
        first, second: values of the same cases.
        samples: bootstrap samples.
        seed: random seed of the bootstrap.

    Raises:
        ValueError: fewer than three cases, or a list of equal values.

    Examples:
        >>> spearman([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]).value
        0.8
    """
    pairs = np.array([first, second], dtype=np.float64)
    if pairs.shape[1] < 3 or (pairs.max(1) == pairs.min(1)).any():
        raise ValueError(
            f"A rank correlation needs at least three cases with different values; got {pairs.shape[1]} cases. Give more mutants "
            "with measurements."
        )
    draws = np.random.default_rng(seed).integers(pairs.shape[1], size=(samples, pairs.shape[1]))
    drawn = np.array([_correlation(ranks(pairs[:, index])) for index in draws])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(round(_correlation(ranks(pairs)), 12), float(low), float(high))


def _correlation(pairs: NDArray[np.float64]) -> float:
    centred = pairs - pairs.mean(1, keepdims=True)
    norm = float(np.sqrt((centred**2).sum(1).prod()))
    return float(centred[0] @ centred[1]) / norm if norm else float("nan")
