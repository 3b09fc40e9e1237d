"""Any Hugging Face masked language model as an ``MLMModel``.

    hidden_states   the encoder's last states
    logits_at       the model's own head, paid only at the positions somebody reads

How a model is run is found by comparison, not by its name: at first use a few short rows go through its own forward and through every way
of running it that this package has (``hf_search``), and the richest that gives the same logits is taken. ``path`` names it.

    padding on either side   changes no logits of real tokens; a model that mixes padding into tokens is run on rows of equal length instead
    packed rows              each document is run as a row of its own
    added embeddings         compared on their own, at first use, with zeros added

The weights stay the model's own, tied ones too: training the wrapper trains the model.

Shapes: ids ``[B, L]`` in, logits ``[B, L, V]`` out.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.hf_path import Path
from unmask.models.hf_probe import probing, token_table
from unmask.models.hf_search import LENGTHS, Probe, search, search_added, widened
from unmask.models.unpadded import one_a_row
from unmask.nn.vocabulary import refuse_unknown_ids


class HuggingFaceMLM(nn.Module):
    """A masked language model of ``transformers`` with the calls that losses and decoders make.

    Args:
        model: a ``…ForMaskedLM``, such as ``AutoModelForMaskedLM.from_pretrained("answerdotai/ModernBERT-base")``.
        mask_idx: id of its mask, where no tokenizer is at hand to say so.

    Attributes:
        path: how the model is run; ``str(path)`` says it in words.
        num_tokens, max_length: vocabulary and longest row.
        width, embedding_width: of hidden states (None where logits are paid everywhere) and of embeddings.

    ``path``, ``max_length`` and ``width`` run the model on a few tokens the first time that one of them, or logits, are needed.

    Raises:
        ValueError: not a masked language model: it has no vocabulary head, or it is causal.

    Example:
        >>> model = HuggingFaceMLM(AutoModelForMaskedLM.from_pretrained("bert-base-uncased"))
        >>> MLMPredictor(max_steps=4, model=model, tokenizer=SpecialIds.of(tokenizer))
    """

    def __init__(self, model: Any, mask_idx: int | None = None) -> None:
        super().__init__()
        config = getattr(model, "config", None)
        name = type(model).__name__
        no_head = (
            f"{name} has no vocabulary head, so it cannot say which token was hidden. Load it as a masked language model: "
            "transformers.AutoModelForMaskedLM.from_pretrained(...)."
        )
        if config is None or not hasattr(model, "get_input_embeddings"):
            raise ValueError(no_head)
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"{name} is an encoder with a decoder; hidden tokens are filled by an encoder alone. Load one with AutoModelForMaskedLM."
            )
        text = config.get_text_config()
        self.model = model
        self.mask_idx = mask_idx
        self.padding_idx = getattr(text, "pad_token_id", None)
        table = token_table(model)
        self.num_tokens: int = text.vocab_size
        self.num_embeddings: int = self.num_tokens if table is None else table.shape[0]
        self.embedding_width: int | None = None if table is None else table.shape[1]
        self.config = {"num_embeddings": self.num_tokens, "model_type": config.model_type}
        self._found: tuple[Path, int | None, int | None] | None = None  # path, longest row, width
        self._faint = False
        self._found_added: Path | None = None
        self._compared = {
            False: LENGTHS[0],
            True: LENGTHS[0],
        }  # width up to which padding was, without added embeddings and with them
        generates = getattr(config, "is_decoder", False) or (hasattr(model, "can_generate") and model.can_generate())
        if model.get_output_embeddings() is None:
            self._refuse_headless(no_head)
        if (
            generates and not next(iter(model.parameters())).is_meta
        ):  # of a causal design, which a bidirectional model may share
            with probing(model):
                Probe.of(model, mask_idx).refuse_causal()

    @property
    def path(self) -> Path:
        """How the model is run."""
        return self._facts()[0]

    @property
    def max_length(self) -> int | None:
        """The longest row; what the config says, while the weights are on the meta device."""
        if self._found is None and next(iter(self.model.parameters())).is_meta:
            return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return self._facts()[1]

    @property
    def width(self) -> int | None:
        """Of hidden states; None where logits are paid everywhere."""
        return self._facts()[2]

    def extra_repr(self) -> str:
        """The path, once it was found."""
        found = "not compared yet" if self._found is None else str(self._found[0])
        return (
            f"path: {found}"
            if self._found_added is None
            else f"path: {found}\nwith added embeddings: {self._found_added}"
        )

    def forward(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits at every position. Arguments as in :meth:`hidden_states`."""
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
            attention_mask: True = real token; None = all are.
            positions: counted from each row's first real token if None, restarting at segments.
            block_mask: must be None; ``segment_ids`` keep documents apart.
            segment_ids: packed rows; tokens attend only within their segment.
            sum_embeds: added to the embeddings of the tokens.

        Raises:
            ValueError: a ``block_mask``, an id beyond the embedding, or positions that the model cannot take.
        """
        real = None if attention_mask is None else attention_mask.bool()
        refuse_unknown_ids(x_t, self.num_embeddings, real)
        if segment_ids is not None:
            index, inside = one_a_row(segment_ids, real)
            ids, places, added = (
                None if rows is None else rows.flatten(0, 1)[index] for rows in (x_t, positions, sum_embeds)
            )
            assert ids is not None
            states = self._path_for(ids, inside, added).states(self.model, ids, inside, places, added)
            whole = states.new_zeros(x_t.numel(), states.shape[-1])
            return whole.index_copy(0, index[inside], states[inside]).view(*x_t.shape, -1)
        if block_mask is not None:
            raise ValueError(
                "A block_mask is for networks of this package: a Hugging Face model cannot take it. Give segment_ids, and each document of a "
                "packed row is run as a row of its own."
            )
        return self._path_for(x_t, real, sum_embeds).states(self.model, x_t, real, positions, sum_embeds)

    def logits_at(
        self, hidden: Float[Tensor, "batch seq width"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Logits of the positions where ``where`` is True, in row-major order: the head is paid only there."""
        return self.path.logits(self.model, hidden[where])

    @torch.compiler.disable
    def _facts(self) -> tuple[Path, int | None, int | None]:
        if self._found is None:
            if next(iter(self.model.parameters())).is_meta:
                raise ValueError(
                    f"The weights of {type(self.model).__name__} are on the meta device, and without values it cannot be run. Load them first."
                )
            with probing(self.model):
                probe = Probe.of(self.model, self.mask_idx)
                probe.refuse_causal()
                self._faint = probe.is_faint
            with probing(self.model, redrawn=self._faint):
                probe = Probe.of(self.model, self.mask_idx)
                path = search(probe)
                width = None if path.head is None else path.states(self.model, probe.rows[0][None]).shape[-1]
                self._found = path, probe.traced[3], width
        return self._found

    def _path_for(self, ids: Tensor, real: Tensor | None, added: Tensor | None) -> Path:
        """The path of a call, compared at its width if it has padding."""
        plain = self.path
        path = plain if added is None else self._found_added
        if path is not None and (
            real is None or ids.shape[1] <= self._compared[added is not None] or path.padding in ("equal", "alone")
        ):
            return path
        return self._compare(ids.shape[1], real is not None, added is not None)

    @torch.compiler.disable
    def _compare(self, width: int, padded: bool, added: bool) -> Path:
        path, longest, states = self._facts()
        with probing(self.model, redrawn=self._faint):
            if added:
                path = self._found_added or search_added(Probe.of(self.model, self.mask_idx), path)
            if padded and width > self._compared[added]:
                path, self._compared[added] = widened(self.model, self.mask_idx, path, width, longest)
        if added:
            self._found_added = path
        else:
            self._found = path, longest, states
        return path

    def _refuse_headless(self, reason: str) -> None:
        """Accept a model that names no output embeddings where its logits are as wide as the vocabulary."""
        with probing(self.model):
            try:
                logits = Probe.of(self.model, self.mask_idx).traced[0][0]
            except ValueError as error:
                raise ValueError(reason) from error
        if logits.shape[-1] != self.num_tokens:
            raise ValueError(reason)
