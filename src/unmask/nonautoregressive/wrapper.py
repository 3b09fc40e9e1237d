"""``NonAutoregressiveWrapper``: a network that fills masked tokens, with its training and generation.

    training     exactly ceil(rate(t) L) masked tokens at a uniform t, weighted cross-entropy at those        unmask.ops, MLMLoss
    generation   sample every masked position, keep the best of the step's count, repeat                      unmask.decode

Mask-Predict (1904.09324), MaskGIT (2202.04200), Token-Critic (2209.04439), masked diffusion (2406.07524). Shapes: ids ``[B, L]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.contracts import MLMLossDict, ScoredTokens, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import OrderLike
from unmask.decode.orders.grid import Grid
from unmask.models.adapters import as_network
from unmask.nn.modes import eval_mode
from unmask.nonautoregressive.conditioning import Conditioned, Conditioning, row_length, training_network
from unmask.nonautoregressive.critic import HiddenCritic, ModuleCritic, guessing_loss, needs_output
from unmask.nonautoregressive.generation import GenerationParts, generation_rules, kept_tokens, prompt_rows
from unmask.nonautoregressive.masking import Masking, keys_of
from unmask.nonautoregressive.schedules import wrapper_schedule
from unmask.ops.schedule import FixedCountTime, Schedule
from unmask.training.loss import MLMLoss


class Losses(NamedTuple):
    """Scalar losses of a batch.

    Attributes:
        loss: the sum to minimise: the generator's loss plus the weighted critic's.
        generator_loss: cross-entropy of the masked tokens, or None.
        critic_loss: binary cross-entropy of the critic, or None.

    Examples:
        >>> import torch
        >>> from unmask import Losses
        >>> weight = torch.ones((), requires_grad=True)
        >>> Losses(2 * weight, None, None).backward()
        >>> weight.grad
        tensor(2.)
    """

    loss: Tensor
    generator_loss: Tensor | None
    critic_loss: Tensor | None

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """Call ``loss.backward()`` with the same arguments."""
        self.loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch does not annotate it


class NonAutoregressiveWrapper(nn.Module):
    """Train a network to fill masked tokens in rows of one length, and generate with it.

    The class and its options are named by the published interface.

    Args:
        net: a ``RotaryTransformerMLMModel``, a Hugging Face model for masked LM, a ``TransformerWrapper`` of x-transformers over an
            ``Encoder``, or a module with ``num_tokens`` and ``max_seq_len``. It is not called before the first batch. A causal network
            raises one warning.
        mask_id: id of the mask; never in the data, never generated.
        steps: forward passes of ``generate``.
        schedule: the fraction masked at ``t``: a name (``"linear"``, ``"cosine"``, …), a ``Schedule``, or a function of a tensor that
            runs from 0 to 1 or from 1 to 0. Without a likelihood weight also a constant mask rate, as a number or a function.

    Other Parameters:
        self_cond: True adds the hidden states of the previous forward pass to the embeddings (2208.04202).
        self_cond_train_prob: fraction of training rows with previous hidden states; the others, and fully masked rows, have a
            learned vector instead.
        no_replace_prob: fraction of the chosen tokens that stay unmasked. Set it and ``random_token_prob`` to 0 to train for
            generation alone: training then includes fully masked rows, and the loss is a likelihood bound.
        random_token_prob: fraction of the chosen tokens that become a random ordinary token.
        can_mask_prev_unmasked: True lets generation mask the least confident tokens again.
        token_critic: a network that rates tokens, see ``unmask.nonautoregressive.critic``; the attribute of that name is this
            module, or the self-critic's output.
        self_token_critic: True adds a critic output to ``net`` itself.
        critic_loss_weight: weight of the critic's binary cross-entropy in the loss.
        use_simple_mdlm_loss_weight: True weights each masked token by ``slope / rate`` of the schedule and divides by all tokens: the
            likelihood bound, in nats per token, of every schedule (``FixedCountTime``). False: the mean over masked tokens.
        layout: ``(height, width)`` of a two-dimensional canvas. Adds embeddings of row and column, and
            orders of the grid for ``generate``.
        max_seq_len: tokens per row; None = the cells of the layout, or the network's ``max_length``.
        special_ids: ids that are never generated or sampled at random, besides the mask.
        seed: of the noise of rows with an identity; that of other rows comes from torch's global generator.

    Raises:
        ValueError: options that contradict each other, or that the network does not support.

    Examples:
        >>> import torch
        >>> from unmask import NonAutoregressiveWrapper, RotaryTransformerMLMModel
        >>> net = RotaryTransformerMLMModel(9, 16, 1, 2, padding_idx=None, mask_idx=8, max_length=6)
        >>> model = NonAutoregressiveWrapper(net, mask_id=8, schedule="cosine", steps=3)
        >>> model(torch.arange(6).repeat(4, 1)).backward()
        >>> model.generate(batch_size=2, seed=0).shape
        torch.Size([2, 6])
    """

    net: Any
    grid: Grid | None
    conditioning: Conditioning
    token_critic: Any
    critic_output: nn.Module | None

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
                "token_critic and self_token_critic were both given, and one critic rates the tokens. Choose one."
            )
        if steps < 1 or not 0.0 <= self_cond_train_prob <= 1.0 or critic_loss_weight < 0:
            raise ValueError(
                f"steps={steps} must be at least 1, self_cond_train_prob={self_cond_train_prob} in [0, 1], and "
                f"critic_loss_weight={critic_loss_weight} at least 0."
            )
        self.net = as_network(net)
        self.grid = None if layout is None else Grid(*layout)
        self.max_seq_len: int = row_length(self.net, self.grid, max_seq_len)
        self.mask_id = mask_id
        self.num_tokens: int = self.net.num_tokens
        self.special: SpecialIds = SpecialIds(mask=mask_id, vocab_size=self.num_tokens, others=tuple(special_ids))
        self.steps = steps
        self.schedule: Schedule = wrapper_schedule(schedule, use_simple_mdlm_loss_weight)
        self.can_mask_prev_unmasked = can_mask_prev_unmasked
        self.self_cond_train_prob = self_cond_train_prob
        self.critic_loss_weight = critic_loss_weight
        self.masking: Masking = Masking(
            self.schedule,
            mask_id,
            self.num_tokens,
            self.max_seq_len,
            float(no_replace_prob),
            float(random_token_prob),
            self.special.others,
            seed,
        )
        self.objective: MLMLoss = (
            MLMLoss(weighting=FixedCountTime(self.schedule, self.max_seq_len), normaliser="supervised")
            if use_simple_mdlm_loss_weight
            else MLMLoss()
        )
        self.conditioning = Conditioning(self.net, self_cond, self.grid)
        self.token_critic = token_critic
        self.critic_output = None  # of a critic network without an output of one logit per token
        if self_token_critic:
            self.token_critic = HiddenCritic(self.net, self.conditioning)
        elif needs_output(token_critic):
            self.critic_output = HiddenCritic.beside(token_critic, self.grid)

    @property
    def critic(self) -> Callable[[Tensor], Tensor] | None:
        """The critic: ids ``[B, L]`` -> logits ``[B, L]`` that each token is wrong; None without a critic."""
        if self.token_critic is None or isinstance(self.token_critic, HiddenCritic):
            return self.token_critic
        return ModuleCritic(self.token_critic) if self.critic_output is None else self.critic_output

    @property
    def self_cond(self) -> bool:
        """True if each forward pass receives the hidden states of the previous one."""
        return self.conditioning.self_cond

    @property
    def no_replace_prob(self) -> float:
        """Fraction of the chosen tokens that stay unmasked."""
        return self.masking.kept

    @property
    def random_token_prob(self) -> float:
        """Fraction of the chosen tokens that become a random ordinary token."""
        return self.masking.randomised

    def forward(
        self,
        batch: Tensor | Mapping[str, Any],
        only_train_generator: bool = False,
        only_train_critic: bool = False,
        generator_sample_temperature: float | None = None,
    ) -> Losses:
        """Return the losses of a batch of clean rows.

        Args:
            batch: int64 ``[B, max_seq_len]``, or columns with the rows' identities (``Masking``), or a batch that is masked already.
            only_train_generator: True skips the critic.
            only_train_critic: True computes no gradient of the generator; ``loss`` is the critic's.
            generator_sample_temperature: of the samples that the critic rates; None = one per row, uniform in (0, 1).

        Returns:
            ``Losses(loss, generator_loss, critic_loss)``, scalars; skipped parts are None.

        Raises:
            ValueError: rows of another length, or mask ids in the data.
        """
        if only_train_critic and (self.critic is None or only_train_generator):
            raise ValueError(
                "only_train_critic needs a critic (token_critic=… or self_token_critic=True), and excludes only_train_generator."
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
        """Return clean rows masked; a batch with ``noise_mask`` is returned unchanged."""
        return batch if isinstance(batch, Mapping) and "noise_mask" in batch else self.masking(batch)

    def conditioned(self, hidden: Mapping[str, Any]) -> Conditioned:
        """Return the network for one masked batch (``training_network``)."""
        return training_network(
            self.net,
            self.conditioning,
            hidden["input_ids"],
            lambda: keys_of(hidden),
            self.mask_id,
            self.self_cond_train_prob,
        )

    def critic_loss(
        self, hidden: Mapping[str, Any], network: Conditioned, temperature: float | None = None
    ) -> Float[Tensor, ""]:
        """Return the critic's loss on the batch, from the logits of the generator's loss (``guessing_loss``).

        Args:
            hidden: the masked batch.
            network: of :meth:`conditioned`, after the generator's loss.
            temperature: of the samples; None = one per row, uniform in (0, 1).
        """
        critic = self.critic
        assert critic is not None and network.logits is not None
        scored, targets = hidden["noise_mask"], hidden["target_ids"]
        return guessing_loss(critic, network.logits, scored, targets, keys_of(hidden), temperature, self.special)

    def losses(self, batch: Tensor | Mapping[str, Any]) -> MLMLossDict:
        """Return the loss as numerator and denominator, for accumulation; the critic's loss is included in the numerator."""
        hidden = self.hide(batch)
        network = self.conditioned(hidden)
        parts = self.objective(hidden, network)
        if self.critic is not None:
            added = self.critic_loss_weight * self.critic_loss(hidden, network)
            parts["numerator"] = parts["numerator"] + added * parts["denominator"]
            parts["loss"] = parts["loss"] + added
        return parts

    def score(self, batch: Tensor | Mapping[str, Any]) -> ScoredTokens:
        """Return the generator's scores of the masked tokens."""
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
        order: OrderLike | None = None,
        annealed: bool = True,
        steps: int | None = None,
        seed: int | None = None,
        observers: Sequence[Any] = (),
    ) -> Int[Tensor, "*batch seq"]:
        """Generate rows.

        Args:
            batch_size: number of rows; None returns one row without a batch dimension (or as many rows as the prompt).
            start_temperature: sampling temperature of the tokens.
            filter_thres: fraction of the vocabulary to filter out, the least likely tokens of each position; None or 0 keeps all.
            noise_level_scale: noise of a critic's ratings, see ``NoisyCritic``; unused without a critic.

        Other Parameters:
            prompt: ``[B, L]`` or ``[L]``, with the mask at positions to fill; other tokens never change. None = all masked.
            order: which tokens are unmasked first. None is the best of the sampled tokens, by the critic if there
                is one, else by probability (MaskGIT). Or a name of ``unmask.decode.families.ORDERS``, such as ``"random"`` (with
                ``annealed=False``, ``filter_thres=None`` and one step per token it samples the network's distribution exactly); with a
                layout a name of ``unmask.decode.orders.grid.GRID_ORDERS``; or a score object or function as in ``make_rules``.
            annealed: True lowers the temperature to 0 over the steps.
            steps: forward passes; None = the wrapper's.
            seed: of all draws; None takes one from torch's global generator.
            observers: called after every step (``Trace``, ``GridView``, …).

        Returns:
            int64 ``[B, L]`` or ``[L]``, without masks.

        Raises:
            ValueError: a prompt of another shape, or options out of range.
        """
        device = next(iter(self.parameters())).device if any(True for _ in self.parameters()) else torch.device("cpu")
        unbatched = batch_size is None and (prompt is None or prompt.dim() == 1)
        ids = (
            torch.full((batch_size or 1, self.max_seq_len), self.mask_id, device=device)
            if prompt is None
            else prompt_rows(prompt, batch_size, self.max_seq_len, self.mask_id, device)
        )
        rules = generation_rules(
            GenerationParts(self.schedule, self.can_mask_prev_unmasked, self.critic, self.grid, self.conditioning),
            max_steps=self.steps if steps is None else steps,
            order=order,
            temperature=start_temperature,
            annealed=annealed,
            top_k=kept_tokens(filter_thres, self.num_tokens),
            noise=noise_level_scale,
        )
        with eval_mode(self):
            decoded = fill_canvas(
                self.net, Canvas.infill(ids, self.special), rules, special=self.special, seed=seed, observers=observers
            )
        rows = decoded.ids.clone()  # not an inference tensor, so that it may be trained on
        return rows[0] if unbatched else rows
