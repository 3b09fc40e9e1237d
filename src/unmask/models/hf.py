"""Any Hugging Face masked language model as an ``MLMModel``.

    hidden_states   the encoder's last states
    logits_at       the model's own head, computed only at the positions that are read

The way to run a model is chosen by comparison, not by its name. At first use, a few short rows run through the model's
own forward and through every path of this package (``hf_search``). The most capable path with the same logits is used;
the attribute ``path`` describes it.

    padding on either side   changes no logits of real tokens; if a model mixes padding into tokens, rows of equal
    length run
                             together instead
    packed rows              each document runs as a row of its own
    added embeddings         compared separately, at first use, with zeros added

The wrapper shares the model's weights, tied ones too: training the wrapper trains the model.

Shapes: ids ``[B, L]`` in, logits ``[B, L, V]`` out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.hf_path import Path
from unmask.models.hf_probe import probing, token_table
from unmask.models.hf_search import LENGTHS, Probe, search, search_added, widened
from unmask.models.unpadded import before, one_a_row
from unmask.nn.vocabulary import refuse_unknown_ids

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _eager(method: _Method) -> _Method:
    """Exclude a method from ``torch.compile``, without the import of the compiler, which takes as long as torch's."""
    disable: Callable[..., Any] = torch.compiler.disable

    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        return (disable(method) if "torch._dynamo" in sys.modules else method)(*arguments, **named)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # the mark that the compiler reads
    return cast(_Method, call)


class HuggingFaceMLM(nn.Module):
    """A masked language model of ``transformers`` with the interface for losses and decoders.

    Args:
        model: a ``…ForMaskedLM``, such as ``AutoModelForMaskedLM.from_pretrained("answerdotai/ModernBERT-base")``.
        mask_idx: id of its mask token, where no tokenizer is at hand.
        shift: the network predicts token i at token i - 1, and the first token at itself (Dream, 2508.15487).

    Attributes:
        causal_block: tokens of an attention block (block diffusion); None = bidirectional attention.
        path: how the model runs; ``str(path)`` describes it.
        num_tokens, max_length: vocabulary size and longest row.
        width, embedding_width: of hidden states (None where logits are computed everywhere) and of embeddings.

    The first use of ``path``, ``max_length``, ``width`` or logits runs the model on a few tokens.

    Raises:
        ValueError: not a masked language model: it has no vocabulary head, or it is causal.

    Examples:
        >>> import torch, transformers
        >>> config = transformers.BertConfig(
        ...     vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ... )
        >>> model = HuggingFaceMLM(transformers.BertForMaskedLM(config).eval(), mask_idx=4)
        >>> model(torch.tensor([[5, 4, 6]])).shape
        torch.Size([1, 3, 50])
    """

    num_tokens: int
    embedding_width: int | None
    causal_block: int | None

    def __init__(self, model: Any, mask_idx: int | None = None, shift: bool = False) -> None:
        super().__init__()
        config = getattr(model, "config", None)
        name = type(model).__name__
        no_head = (
            f"{name} has no vocabulary head, so it cannot predict masked tokens. Load it as a masked language model: "
            "transformers.AutoModelForMaskedLM.from_pretrained(...)."
        )
        if config is None or not hasattr(model, "get_input_embeddings"):
            raise ValueError(no_head)
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"{name} is an encoder-decoder model, and masked tokens are predicted by an encoder alone. Load one with AutoModelForMaskedLM."
            )
        text = config.get_text_config()
        self.model = model
        self.mask_idx = mask_idx
        self.shift = shift
        self.causal_block = getattr(model, "causal_block", None)
        self.padding_idx: int | None = getattr(text, "pad_token_id", None)
        table = token_table(model)
        self.num_tokens = text.vocab_size
        self.num_embeddings: int = self.num_tokens if table is None else table.shape[0]
        self.embedding_width = None if table is None else table.shape[1]
        self.config: dict[str, Any] = {"num_embeddings": self.num_tokens, "model_type": config.model_type}
        self._chosen: tuple[Path, int | None, int | None] | None = None  # path, longest row, width
        self._faint = False
        self._added_path: Path | None = None
        # Row width up to which padding was compared, without and with added embeddings.
        self._compared = {False: LENGTHS[0], True: LENGTHS[0]}
        generates = getattr(config, "is_decoder", False) or (hasattr(model, "can_generate") and model.can_generate())
        if model.get_output_embeddings() is None:
            self._refuse_headless(no_head)
        if generates and not next(iter(model.parameters())).is_meta:  # a design of causal models, perhaps bidirectional
            with probing(model):
                Probe.of(model, mask_idx).refuse_causal()

    @property
    def path(self) -> Path:
        """The way the model runs."""
        return self._facts()[0]

    @property
    def max_length(self) -> int | None:
        """The longest row; that of the config while the weights are on the meta device."""
        if self._chosen is None and next(iter(self.model.parameters())).is_meta:
            declared: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
            return declared
        return self._facts()[1]

    @property
    def width(self) -> int | None:
        """Width of hidden states; None where logits are computed everywhere."""
        return self._facts()[2]

    def extra_repr(self) -> str:
        """Return a description of the path, if it has been chosen."""
        path = "not compared yet" if self._chosen is None else str(self._chosen[0])
        return (
            f"path: {path}" if self._added_path is None else f"path: {path}\nwith added embeddings: {self._added_path}"
        )

    def forward(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Return logits at every position. Arguments as of :meth:`hidden_states`."""
        return self.path.logits(self.model, self.hidden_states(x_t, attention_mask, positions, block_mask, segment_ids))

    def hidden_states(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        sum_embeds: Float[Tensor, "batch seq embedding"] | None = None,
    ) -> Float[Tensor, "batch seq width"]:
        """Run the encoder.

        Args:
            x_t: int64 ``[B, L]``.
            attention_mask: True = real token; None = all are real.
            positions: None = counted from each row's first real token, restarting at segments.
            block_mask: must be None; use ``segment_ids`` to separate documents.
            segment_ids: packed rows; tokens attend only within their segment.
            sum_embeds: ``[B, L, E]``, added to the token embeddings.

        Returns:
            ``[B, L, D]``; undefined at padding.

        Raises:
            ValueError: a ``block_mask``, an id beyond the embedding, or positions that the model does not support.
        """
        real = None if attention_mask is None else attention_mask.bool()
        refuse_unknown_ids(x_t, self.num_embeddings, real)
        if segment_ids is not None:
            index, inside = one_a_row(segment_ids, real)
            ids, places, added = (
                None if rows is None else rows.flatten(0, 1)[index] for rows in (x_t, positions, sum_embeds)
            )
            assert ids is not None
            states = self._states(self._path_for(ids, inside, added), ids, inside, places, added)
            flat = states.new_zeros(x_t.numel(), states.shape[-1])
            return flat.index_copy(0, index[inside], states[inside]).view(*x_t.shape, -1)
        if block_mask is not None:
            raise ValueError(
                "A Hugging Face model does not support a block_mask, which is for networks of this package. Give segment_ids instead: each "
                "document of a packed row then runs as a row of its own."
            )
        return self._states(self._path_for(x_t, real, sum_embeds), x_t, real, positions, sum_embeds)

    def _states(
        self, path: Path, ids: Tensor, real: Tensor | None, positions: Tensor | None, added: Tensor | None
    ) -> Tensor:
        """Return the states that predict each token."""
        states = path.states(self.model, ids, real, positions, added)
        return states.gather(1, before(ids, real)[..., None].expand_as(states)) if self.shift else states

    def logits_at(
        self, hidden: Float[Tensor, "batch seq width"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return logits ``[N, V]`` at the True positions of ``where``, in row-major order."""
        return self.path.logits(self.model, hidden[where])

    @_eager
    def _facts(self) -> tuple[Path, int | None, int | None]:
        if self._chosen is None:
            if next(iter(self.model.parameters())).is_meta:
                raise ValueError(
                    f"The weights of {type(self.model).__name__} are on the meta device and have no values. Load them before running the model."
                )
            with probing(self.model):
                probe = Probe.of(self.model, self.mask_idx)
                probe.refuse_causal()
                self._faint = probe.is_faint
            with probing(self.model, redrawn=self._faint):
                probe = Probe.of(self.model, self.mask_idx)
                path = search(probe)
                width = None if path.head is None else path.states(self.model, probe.rows[0][None]).shape[-1]
                self._chosen = path, probe.traced[3], width
        return self._chosen

    def _path_for(self, ids: Tensor, real: Tensor | None, added: Tensor | None) -> Path:
        """Return the path of a call; if the call has padding, one compared at its width."""
        plain = self.path
        path = plain if added is None else self._added_path
        if path is not None and (
            real is None or ids.shape[1] <= self._compared[added is not None] or path.padding in ("equal", "alone")
        ):
            return path
        return self._compare(ids.shape[1], real is not None, added is not None)

    @_eager
    def _compare(self, width: int, padded: bool, added: bool) -> Path:
        path, longest, states = self._facts()
        with probing(self.model, redrawn=self._faint):
            if added:
                path = self._added_path or search_added(Probe.of(self.model, self.mask_idx), path)
            if padded and width > self._compared[added]:
                path, self._compared[added] = widened(self.model, self.mask_idx, path, width, longest)
        if added:
            self._added_path = path
        else:
            self._chosen = path, longest, states
        return path

    def _refuse_headless(self, reason: str) -> None:
        """Accept a model without output embeddings if its logits have the width of the vocabulary."""
        with probing(self.model):
            try:
                logits = Probe.of(self.model, self.mask_idx).traced[0][0]
            except ValueError as error:
                raise ValueError(reason) from error
        if logits.shape[-1] != self.num_tokens:
            raise ValueError(reason)
