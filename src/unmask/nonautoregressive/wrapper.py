"""NonAutoregressiveWrapper: a network that fills hidden tokens, how it is trained, and how it generates.

    training     exactly ceil(rate(t) L) tokens hidden at a uniform t, cross-entropy at those, weighted    unmask.ops, MLMLoss
    generation   the one loop: draw everywhere, keep the best of the step's budget, repeat                 unmask.decode

Mask-Predict (1904.09324), MaskGIT (2202.04200), Token-Critic (2209.04439), masked diffusion (2406.07524). Shapes: ids ``[B, L]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.contracts import MLMLossDict, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.grid import Grid
from unmask.models.adapters import as_network
from unmask.nn.modes import eval_mode
from unmask.nonautoregressive.conditioning import Conditioned, Conditioning
from unmask.nonautoregressive.critic import HiddenCritic, ModuleCritic, guessing_loss, takes_output
from unmask.nonautoregressive.generation import Order, generation_rules
from unmask.nonautoregressive.masking import NOISE_KEYS, Masking, earlier
from unmask.nonautoregressive.schedules import wrapper_schedule
from unmask.ops.schedule import FixedCountTime, Schedule
from unmask.randomness import fold, uniform
from unmask.training.loss import MLMLoss, ScoredTokens

_CONDITIONED, _DRAFT, _DRAFT_TEMPERATURE, _EARLIER = (
    101,
    102,
    103,
    104,
)  # what a row's key is folded with for draws beyond its corruption


class Losses(NamedTuple):
    """``loss`` is what is minimised: the generator's, plus the weighted critic's if there is one. Scalars."""

    loss: Tensor
    generator_loss: Tensor | None
    critic_loss: Tensor | None

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """``loss.backward()``."""
        self.loss.backward(*args, **kwargs)


class NonAutoregressiveWrapper(nn.Module):
    """Train a network to fill hidden tokens of rows of one length, and generate with it.

    Args:
        net: a ``RotaryTransformerMLMModel``, a Hugging Face model for masked LM, a ``TransformerWrapper`` of x-transformers over an
            ``Encoder``, or a module with ``num_tokens`` and ``max_seq_len``. It is not called before the first batch. A causal one
            is taken with one warning.
        mask_id: id of the mask; never in the data, never generated.
        steps: evaluations of the network in which ``generate`` fills a row.
        self_cond: hand each evaluation the hidden states of the one before (2208.04202).
        self_cond_train_prob: share of the training rows that are given them; the others, and all that are hidden whole, see the
            learned "nothing yet".
        no_replace_prob: of the tokens chosen to be hidden, the share that stays as it is. Set it (and the next) to 0 to train for
            generation alone: an empty canvas is then no surprise, and the loss is a likelihood bound.
        random_token_prob: the share that becomes a random ordinary token.
        schedule: the fraction hidden at ``t``: a name (``"linear"``, ``"cosine"``, …), a ``Schedule``, or a function of a tensor that
            runs from 0 to 1 or from 1 to 0. Without a likelihood weight also a constant share, as a number or a function.
        can_mask_prev_unmasked: in generation, hide revealed tokens again that are the least sure of all.
        token_critic: a network that judges tokens, see ``unmask.nonautoregressive.critic``; the attribute of that name is this
            very module, or the self-critic's output.
        self_token_critic: the judge is one more output of ``net`` itself.
        critic_loss_weight: of the critic's binary cross-entropy in the loss.
        use_simple_mdlm_loss_weight: weigh each hidden token by ``slope / rate`` of the schedule and divide by all tokens: the
            likelihood bound, in nats per token, of every schedule (``CountTime``). False: the mean over hidden tokens.
        layout: ``(height, width)`` of a two-dimensional canvas. The network is told row and column of each cell, and
            ``generate`` knows orders of the grid.
        max_seq_len: tokens of a row; the cells of the layout, or the network's longest row, if None.
        special_ids: ids that are never generated nor drawn at random, beside the mask.
        seed: of the noise of rows that have an identity; the others' comes from torch's global generator.

    Raises:
        ValueError: options that contradict each other, or a network that cannot do it.

    Example:
        >>> model = NonAutoregressiveWrapper(net, mask_id=256, schedule="cosine")
        >>> model(batch).loss.backward()
        >>> model.generate(batch_size=4)  # int64 [4, L]
    """

    def __init__(
        self,
        net: Any,
        *,
        mask_id: int,
        steps: int = 18,
        self_cond: bool = False,
        self_cond_train_prob: float = 0.75,
        no_replace_prob: float = 0.15,
        random_token_prob: float = 0.1,
        schedule: str | float | Schedule | Callable[[Tensor], Tensor] = "linear",
        can_mask_prev_unmasked: bool = False,
        token_critic: nn.Module | None = None,
        self_token_critic: bool = False,
        critic_loss_weight: float = 1.0,
        use_simple_mdlm_loss_weight: bool = True,
        layout: tuple[int, int] | None = None,
        max_seq_len: int | None = None,
        special_ids: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if token_critic is not None and self_token_critic:
            raise ValueError(
                "token_critic and self_token_critic were both given, and one judge ranks the tokens. Choose one."
            )
        if steps < 1 or not 0.0 <= self_cond_train_prob <= 1.0 or critic_loss_weight < 0:
            raise ValueError(
                f"steps={steps} is at least 1, self_cond_train_prob={self_cond_train_prob} a share in [0, 1], and "
                f"critic_loss_weight={critic_loss_weight} at least 0."
            )
        self.net = as_network(net)
        self.grid = None if layout is None else Grid(*layout)
        self.max_seq_len = self._length(max_seq_len)
        self.mask_id = mask_id
        self.num_tokens: int = self.net.num_tokens
        self.special = SpecialIds(mask=mask_id, vocab_size=self.num_tokens, others=tuple(special_ids))
        self.steps = steps
        self.schedule = wrapper_schedule(schedule, use_simple_mdlm_loss_weight)
        self.can_mask_prev_unmasked = can_mask_prev_unmasked
        self.self_cond_train_prob = self_cond_train_prob
        self.critic_loss_weight = critic_loss_weight
        self.masking = Masking(
            self.schedule,
            mask_id,
            self.num_tokens,
            self.max_seq_len,
            float(no_replace_prob),
            float(random_token_prob),
            self.special.others,
            seed,
        )
        self.objective = (
            MLMLoss(weighting=FixedCountTime(self.schedule, self.max_seq_len), normaliser="supervised")
            if use_simple_mdlm_loss_weight
            else MLMLoss()
        )
        self.conditioning = Conditioning(self.net, self_cond, self.grid)
        self.token_critic: Any = token_critic
        self.critic_output: nn.Module | None = None  # what a critic without an output of its own is given
        if self_token_critic:
            self.token_critic = HiddenCritic(self.net, self.conditioning)
        elif takes_output(token_critic):
            self.critic_output = HiddenCritic.beside(token_critic, self.grid)

    @property
    def critic(self) -> Callable[[Tensor], Tensor] | None:
        """What judges: ids ``[B, L]`` -> logits ``[B, L]`` that each token is wrong; None without a critic."""
        if self.token_critic is None or isinstance(self.token_critic, HiddenCritic):
            return self.token_critic
        return ModuleCritic(self.token_critic) if self.critic_output is None else self.critic_output

    @property
    def self_cond(self) -> bool:
        """Whether each evaluation is handed the hidden states of the one before."""
        return self.conditioning.self_cond

    @property
    def no_replace_prob(self) -> float:
        """Of the chosen tokens, the share that stays as it is."""
        return self.masking.kept

    @property
    def random_token_prob(self) -> float:
        """Of the chosen tokens, the share that becomes a random ordinary token."""
        return self.masking.randomised

    def forward(
        self,
        batch: Tensor | Mapping[str, Any],
        only_train_generator: bool = False,
        only_train_critic: bool = False,
        generator_sample_temperature: float | None = None,
    ) -> Losses:
        """The losses of a batch of clean rows.

        Args:
            batch: int64 ``[B, max_seq_len]``, or columns with the rows' identities (``Masking``), or a batch that is already hidden.
            only_train_generator: leave the critic out.
            only_train_critic: leave the generator as it is; ``loss`` is the critic's.
            generator_sample_temperature: at which the tokens are drawn that the critic learns from; by default each row has its
                own, uniform in (0, 1).

        Returns:
            ``Losses(loss, generator_loss, critic_loss)``; what was left out is None.

        Raises:
            ValueError: rows that do not fit, or the mask among their tokens.
        """
        if only_train_critic and (self.critic is None or only_train_generator):
            raise ValueError(
                "only_train_critic needs a critic (token_critic=… or self_token_critic=True), and goes without only_train_generator."
            )
        hidden = self.hide(batch)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not only_train_critic):
            network = self.conditioned(hidden)
            generator = self.objective(hidden, network)["loss"]
        critic = (
            None
            if self.critic is None or only_train_generator
            else self.critic_loss(hidden, network, generator_sample_temperature)
        )
        if only_train_critic:
            assert critic is not None
            return Losses(critic, None, critic)
        return Losses(generator if critic is None else generator + self.critic_loss_weight * critic, generator, critic)

    def hide(self, batch: Tensor | Mapping[str, Any]) -> Mapping[str, Any]:
        """Hide part of clean rows; a batch that has its ``noise_mask`` is itself."""
        return batch if isinstance(batch, Mapping) and "noise_mask" in batch else self.masking(batch)

    def conditioned(self, hidden: Mapping[str, Any]) -> Conditioned:
        """The network for one batch, told of the grid and, by a coin for each row, of its answer to the row as it stood before
        (``earlier``). Its answer to the row as it stands it would learn to repeat, and so pass over the tokens placed since."""
        ids: Tensor = hidden["input_ids"]
        shape = (ids.shape[0], ids.shape[1])
        if not self.conditioning.self_cond:
            return Conditioned(self.net, self.conditioning(None, shape))
        keys = self._keys(hidden)
        given = (uniform(fold(keys, _CONDITIONED)) < self.self_cond_train_prob) & (ids != self.mask_id).any(-1)
        before = None
        if bool(given.any()):
            with torch.no_grad():
                stood = earlier(ids[given], self.mask_id, fold(keys[given], _EARLIER))
                first = self.net.hidden_states(stood, sum_embeds=self.conditioning(None, (len(stood), shape[1])))
            before = first.new_zeros(*shape, first.shape[-1]).index_copy(0, given.nonzero()[:, 0], first)
        return Conditioned(self.net, self.conditioning(before, shape, given))

    def critic_loss(
        self, hidden: Mapping[str, Any], network: Conditioned, temperature: float | None = None
    ) -> Float[Tensor, ""]:
        """The critic's loss on the batch, as the network guessed it when it was asked for the generator's (``guessing_loss``)."""
        critic = self.critic
        assert critic is not None and network.logits is not None
        keys = self._keys(hidden)
        heat = (
            uniform(fold(keys, _DRAFT_TEMPERATURE))
            if temperature is None
            else torch.full(keys.shape, temperature, device=keys.device)
        )
        return guessing_loss(
            critic, network.logits, hidden["noise_mask"], hidden["target_ids"], fold(keys, _DRAFT), heat, self.special
        )

    def losses(self, batch: Tensor | Mapping[str, Any]) -> MLMLossDict:
        """The loss as a sum and a count, for loops that accumulate before they divide; the critic's share is in the sum."""
        hidden = self.hide(batch)
        network = self.conditioned(hidden)
        parts = self.objective(hidden, network)
        if self.critic is not None:
            added = self.critic_loss_weight * self.critic_loss(hidden, network)
            parts["numerator"] = parts["numerator"] + added * parts["denominator"]
            parts["loss"] = parts["loss"] + added
        return parts

    def score(self, batch: Tensor | Mapping[str, Any]) -> ScoredTokens:
        """What the generator says of each hidden token."""
        hidden = self.hide(batch)
        return self.objective.score(hidden, self.conditioned(hidden))

    @torch.no_grad()
    def generate(
        self,
        batch_size: int | None = None,
        start_temperature: float = 1.0,
        filter_thres: float | None = 0.7,
        noise_level_scale: float = 1.0,
        *,
        prompt: Int[Tensor, "*batch seq"] | None = None,
        order: Order | None = None,
        annealed: bool = True,
        steps: int | None = None,
        seed: int | None = None,
        observers: Sequence[Any] = (),
    ) -> Int[Tensor, "*batch seq"]:
        """Fill rows.

        Args:
            batch_size: how many; None fills one and returns it without a batch dimension (or as many as the prompt has).
            start_temperature: of the tokens.
            filter_thres: leave out this share of the vocabulary, the least likely tokens of each place; None or 0 keeps all.
            noise_level_scale: chance in a critic's judgement, see ``NoisyCritic``; nothing without a critic.
            prompt: ``[B, L]`` or ``[L]``, with the mask where a token is wanted; the rest never changes. None = all is wanted.
            order: which tokens are revealed first. None is the documented order, the best of the drawn tokens, by the critic if there
                is one, else by their probability. Or a name: ``"random"`` (with ``annealed=False``, ``filter_thres=None`` and as many
                steps as tokens it samples the network's law exactly), ``"top_prob"``, … of ``unmask.decode.named.ORDERS``, with a
                layout those of ``unmask.decode.orders.grid``; or a score object of ``unmask.decode``.
            annealed: let the temperature fall to 0 over the steps.
            steps: in place of the wrapper's.
            seed: of all draws; None takes one from torch's global generator.
            observers: told of every step (``Trace``, ``GridView``, …).

        Returns:
            int64 ``[B, L]`` or ``[L]``, without masks.

        Raises:
            ValueError: a prompt of another shape, or options out of range.
        """
        device = next(iter(self.parameters())).device if any(True for _ in self.parameters()) else torch.device("cpu")
        alone = batch_size is None and (prompt is None or prompt.dim() == 1)
        ids = (
            torch.full((batch_size or 1, self.max_seq_len), self.mask_id, device=device)
            if prompt is None
            else self._prompt(prompt, batch_size, device)
        )
        rules = generation_rules(
            self,
            max_steps=self.steps if steps is None else steps,
            order=order,
            temperature=start_temperature,
            annealed=annealed,
            top_k=None if not filter_thres else self._kept(filter_thres),
            noise=noise_level_scale,
        )
        with eval_mode(self):
            decoded = fill_canvas(
                self.net, Canvas.infill(ids, self.special), rules, special=self.special, seed=seed, observers=observers
            )
        rows = decoded.ids.clone()  # an ordinary tensor, that may be trained on
        return rows[0] if alone else rows

    def _prompt(self, prompt: Tensor, batch_size: int | None, device: torch.device) -> Int[Tensor, "batch seq"]:
        rows = prompt[None] if prompt.dim() == 1 else prompt
        if (
            rows.dim() != 2
            or rows.shape[1] != self.max_seq_len
            or (batch_size not in (None, len(rows)) and len(rows) != 1)
        ):
            raise ValueError(
                f"A prompt is ids [B, {self.max_seq_len}], the mask (id {self.mask_id}) where tokens are wanted, and this one is "
                f"{list(prompt.shape)} for batch_size={batch_size}. Leave batch_size out, or give one row to be repeated."
            )
        return rows.to(device).long().expand(batch_size or len(rows), -1).contiguous()

    def _kept(self, share: float) -> int:
        if not 0.0 <= share < 1.0:
            raise ValueError(
                f"filter_thres={share} is the share of the vocabulary that is left out: give a number in [0, 1), or None for none."
            )
        return max(1, math.ceil((1.0 - share) * self.num_tokens))

    def _length(self, given: int | None) -> int:
        longest = self.net.max_length
        length = given if given is not None else self.grid.cells if self.grid is not None else longest
        if length is None or length < 1:
            raise ValueError("The network does not say how long its rows are: give max_seq_len, at least 1.")
        if self.grid is not None and length != self.grid.cells:
            raise ValueError(
                f"A layout of {self.grid.height} × {self.grid.width} has {self.grid.cells} cells, and max_seq_len is {length}."
            )
        if longest is not None and length > longest:
            raise ValueError(
                f"Rows of {length} tokens do not fit a network made for {longest} (max_length). Build it for more, or shorten the rows."
            )
        return length

    @staticmethod
    def _keys(hidden: Mapping[str, Any]) -> Int[Tensor, " batch"]:
        """Keys of the rows; drawn now for a batch that somebody else hid, and kept in it no longer than this call."""
        keys = hidden.get(NOISE_KEYS)
        ids: Tensor = hidden["input_ids"]
        return torch.randint(2**62, (len(ids),)).to(ids.device) if keys is None else keys.to(ids.device)
