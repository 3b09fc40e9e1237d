"""Texts of a Markov chain: their entropy rate, and the probability of each text, are known exactly.

The bits of a masked diffusion model are a bound, so a trained model stays above the entropy by what it has not learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.tasks.catalogue import row_draw, small_config

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class MarkovChain:
    """A stationary chain over letters; rows of its transition matrix are Dirichlet draws with concentration 1/2.

    Attributes:
        states: number of letters, up to 26.
        length: letters of a text.
        chain: number of the transition matrix.

    Examples:
        >>> chain = MarkovChain(states=4, length=8)
        >>> text = chain.generate(1, seed=0)[0]["text"]
        >>> len(text), chain.nats(text) > 0, 0 < chain.entropy_rate < 1.39
        (8, True, True)
    """

    states: int = 8
    length: int = 64
    chain: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.states <= len(LETTERS) or self.length < 2:
            raise ValueError(
                f"A chain has 2 to 26 states and texts of 2 letters or more; got states={self.states}, length={self.length}."
            )

    @property
    def config(self) -> dict[str, Any]:
        """Recommended sections of the config."""
        base = small_config(self.length + 1)
        base["data"] |= {"kind": "text", "rows": "document"}
        return base

    @cached_property
    def transitions(self) -> NDArray[np.float64]:
        """Probability of each next letter, ``[states, states]``."""
        draw = np.random.default_rng([self.chain, self.states])
        return draw.dirichlet(np.full(self.states, 0.5), size=self.states)

    @cached_property
    def stationary(self) -> NDArray[np.float64]:
        """Probability of each letter, ``[states]``."""
        system = np.vstack([self.transitions.T - np.eye(self.states), np.ones(self.states)])
        solved: NDArray[np.float64] = np.linalg.lstsq(system, np.append(np.zeros(self.states), 1.0), rcond=None)[0]
        return solved.clip(1e-300)

    @property
    def entropy_rate(self) -> float:
        """Entropy of the next letter given the one before, in nats."""
        logs = np.log(self.transitions.clip(1e-300))
        return float(-(self.stationary[:, None] * self.transitions * logs).sum())

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return texts number ``0 .. count - 1`` of a seed."""
        rows, letters = [], range(self.states)
        for number in range(count):
            draw = row_draw(f"markov {self.chain}", seed, number)
            state = draw.choices(letters, self.stationary.tolist())[0]
            text = [state]
            while len(text) < self.length:
                state = draw.choices(letters, self.transitions[state].tolist())[0]
                text.append(state)
            rows.append({"text": "".join(LETTERS[s] for s in text)})
        return rows

    def nats(self, text: str) -> float:
        """Return the exact negative log-probability of a text; infinite for letters outside the chain."""
        states = [LETTERS.find(letter) for letter in text]
        if not states or not all(0 <= state < self.states for state in states):
            return math.inf
        steps = self.transitions[states[:-1], states[1:]]
        return float(-np.log(self.stationary[states[0]]) - np.log(steps.clip(1e-300)).sum())


MARKOV_CHAIN = MarkovChain()
