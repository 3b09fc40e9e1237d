"""Generation by iterative unmasking: all new tokens start as the mask token, and the most confident are fixed first.

Each step runs the network once, takes the likeliest (or a drawn) token at the best masked positions, and repeats until no mask is
left (MaskGIT, 2202.04200; "low-confidence remasking" of LLaDA, 2502.09992). Special tokens are never placed. A token that is
part of a UTF-8 character is placed only where the character can be completed.

Shapes: `B` rows of `L` tokens, vocabulary `V`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BLANK, PADDING = -1, -2  # stand-ins for the ids of masked positions and of padding
WHOLE = 0  # the class of tokens that are whole characters
# UTF-8 (Unicode, table 3-7). State 0 is between characters; 1 to 3 need as many bytes; 4 to 7 follow E0, ED, F0, F4.
_LEADS = ((0x00, 0x7F, 0), (0xC2, 0xDF, 1), (0xE0, 0xE0, 4), (0xED, 0xED, 5), (0xE1, 0xEF, 2), (0xF0, 0xF0, 6), (0xF4, 0xF4, 7), (0xF1, 0xF3, 3))  # fmt: skip
_TAILS = {1: (0x80, 0xBF, 0), 2: (0x80, 0xBF, 1), 3: (0x80, 0xBF, 2), 4: (0xA0, 0xBF, 1), 5: (0x80, 0x9F, 1), 6: (0x90, 0xBF, 2), 7: (0x80, 0x8F, 2)}  # fmt: skip
_STATES = range(8)
Moves = tuple[int | None, ...]


def _move(state: int, data: bytes) -> int | None:
    """Return the UTF-8 state after some bytes, or None if they cannot follow."""
    for byte in data:
        options = _LEADS if state == 0 else (_TAILS[state],)
        following = [after for low, high, after in options if low <= byte <= high]
        if not following:
            return None
        state = following[0]
    return state


class WholeCharacters:
    """Tokens allowed at a masked position, so that the row can still become valid UTF-8.

    Args:
        parts: bytes of every token that is part of a character, by token id.
        vocab_size: number of ids.
        device: of the masks.
    """

    def __init__(self, parts: Mapping[int, bytes], vocab_size: int, device: torch.device) -> None:
        moves: dict[Moves, int] = {(0, *[None] * 7): WHOLE}
        self.class_of: dict[int, int] = {
            id: moves.setdefault(tuple(_move(s, data) for s in _STATES), len(moves))
            for id, data in sorted(parts.items())
        }
        self.moves: list[Moves] = list(moves)
        classes = torch.zeros(vocab_size, dtype=torch.int64)
        if self.class_of:
            classes[list(self.class_of)] = torch.tensor(list(self.class_of.values()))
        self.classes: Tensor = classes.to(device)
        self._masks: dict[tuple[frozenset[int], frozenset[int]], Tensor] = {}

    def _options(self, id: int) -> list[Moves]:
        return self.moves if id == BLANK else [self.moves[self.class_of.get(id, WHOLE)]]

    def after(self, states: frozenset[int], id: int) -> frozenset[int]:
        """Return the states that a token can lead to; after invalid bytes, reading restarts between characters."""
        reached = {move[s] for move in self._options(id) for s in states}
        return frozenset(s for s in reached if s is not None) or frozenset({0})

    def before(self, states: frozenset[int], id: int) -> frozenset[int]:
        """Return the states from which a token leads into one of `states`."""
        return frozenset(s for move in self._options(id) for s in _STATES if move[s] in states) or frozenset({0})

    def ends(self, ids: list[int]) -> list[frozenset[int]]:
        """Return, for each position, the states behind it from which the rest of the row can be completed."""
        found = [frozenset({0})]
        for id in reversed(ids):
            found.append(self.before(found[-1], id))
        return found[-2::-1]

    def forbidden(self, start: frozenset[int], end: frozenset[int]) -> Tensor:
        """Return bool `[V]`: True at tokens that lead from no state of `start` to one of `end`."""
        if (start, end) not in self._masks:
            allowed = [any(move[s] in end for s in start) for move in self.moves]
            if not any(allowed):
                allowed[WHOLE] = True
            self._masks[start, end] = ~torch.tensor(allowed, device=self.classes.device)[self.classes]
        return self._masks[start, end]


class DiffusionGeneration:
    """The method `diffusion_generate`, for a masked language model of transformers."""

    config: Any

    @torch.no_grad()
    def diffusion_generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        steps: int | None = None,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Fill the masks of a prompt and continue it; the most confident positions are fixed first.

        Prompts of different lengths must be padded on the left. Unmasked tokens of the prompt never change.

        Args:
            input_ids: int64 `[B, P]`; mask tokens inside the prompt are filled too. `P` may be 0.
            attention_mask: `[B, P]`, 1 = real token; None = all but padding tokens.
            max_new_tokens: tokens to append; 0 fills the masks of the prompt only.
            steps: forward passes at most; None = one for each masked position. Fewer are faster and less accurate.
            temperature: of the tokens; 0 = always the likeliest.
            generator: source of randomness at a temperature above 0.

        Returns:
            int64 `[B, P + max_new_tokens]`, prompt and padding included.

        Raises:
            ValueError: the model has no mask token, or an option is out of range.
        """
        defaults = self.config.diffusion
        max_new_tokens = defaults.get("max_new_tokens", 64) if max_new_tokens is None else max_new_tokens
        temperature = defaults.get("temperature", 0.0) if temperature is None else temperature
        steps = defaults.get("steps") if steps is None else steps
        mask, pad = self.config.mask_token_id, self.config.pad_token_id
        others = (None, mask, self.config.bos_token_id, self.config.eos_token_id)
        input_ids = input_ids.long()
        if mask is None:
            raise ValueError(
                "config.mask_token_id is None, and generation needs a mask token: set it to the tokenizer's."
            )
        if max_new_tokens < 0 or temperature < 0 or (steps is not None and steps < 1):
            raise ValueError(
                f"max_new_tokens={max_new_tokens} and temperature={temperature} must be 0 or more, steps={steps} 1 or more."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids) if pad in others else (input_ids != pad).long()
        new = input_ids.new_full((len(input_ids), max_new_tokens), mask)
        ids = torch.cat([input_ids, new], 1)
        real = torch.cat([attention_mask.to(ids), torch.ones_like(new)], 1)
        parts = {int(id): bytes.fromhex(data) for id, data in defaults.get("character_parts", {}).items()}
        characters = WholeCharacters(parts, self.config.vocab_size, ids.device) if parts else None
        never = torch.tensor(defaults.get("suppress_token_ids", [mask]), dtype=torch.int64, device=ids.device)

        blank = (ids == mask) & (real == 1)
        count = blank.sum(-1)
        rounds = count if steps is None else count.clamp(max=steps)
        for step in range(int(rounds.max()) if len(rounds) else 0):
            done = torch.minimum(rounds, torch.full_like(rounds, step + 1))
            quota = count * done // rounds.clamp(min=1) - (
                count - blank.sum(-1)
            )  # even steps: they differ by one at most
            ids = self._unmask(ids, real, blank, quota, never, characters, temperature, generator)
            blank = (ids == mask) & blank
        return ids

    def _unmask(
        self,
        ids: Tensor,
        real: Tensor,
        blank: Tensor,
        quota: Tensor,
        never: Tensor,
        characters: WholeCharacters | None,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Run the network once and fill the `quota[b]` most confident masked positions of each row `b`."""
        logits = self(input_ids=ids, attention_mask=real).logits.float()  # type: ignore[operator]  # of the model this is mixed into
        logits[..., never] = -torch.inf
        visible = ids.masked_fill(real != 1, PADDING).masked_fill(blank, BLANK).tolist()
        rows = [row for row in range(len(ids)) if int(quota[row])]
        if characters is not None:
            for row in rows:
                states, ends = frozenset({0}), characters.ends(visible[row])
                for column, id in enumerate(visible[row]):
                    if id == BLANK:
                        logits[row, column].masked_fill_(characters.forbidden(states, ends[column]), -torch.inf)
                    states = characters.after(states, id)
        log_probs = logits.log_softmax(-1)
        confidence = log_probs.amax(-1).exp().masked_fill(~blank, -1.0)  # probability of the likeliest token
        ranked = confidence.argsort(dim=-1, descending=True, stable=True).tolist()  # ties go to the leftmost
        ids = ids.clone()
        for row in rows:
            chosen = set(ranked[row][: int(quota[row])])
            ends = [] if characters is None else characters.ends(visible[row])
            states = frozenset({0})
            for column, id in enumerate(visible[row]):
                if column in chosen:
                    scores = log_probs[row, column]
                    if characters is not None:  # tokens of this step to the left count too
                        narrower = scores.masked_fill(characters.forbidden(states, ends[column]), -torch.inf)
                        scores = narrower if bool((narrower > -torch.inf).any()) else scores
                    if temperature == 0:
                        id = int(scores.argmax())
                    else:
                        id = int(torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator))
                    ids[row, column] = id
                states = states if characters is None else characters.after(states, id)
        return ids
