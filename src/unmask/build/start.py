"""Training from existing weights: ``model.init``, a run, a checkpoint, an export, or a network of ``transformers``.

    source                                      network
    run or checkpoint, folder of unmask export  as it is, with another dropout, length, block or attention kernel
    Lightning file of the published classes     ``unmask.models.published_layouts``
    Hugging Face masked language model          ``HuggingFaceMLM``; diffusion LMs with their own code too
    Hugging Face causal language model          ``CausalLMAsMLM``: mask token, open attention, shifted logits

The network takes its sizes from the source. The optimiser is fresh, and the step counter is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from unmask.build.foreign import ForeignOptions, open_foreign, open_lightning_model
from unmask.config.model_config import ModelConfig
from unmask.config.tree import Config, load_config
from unmask.data.tokenizing.added_roles import with_required_roles
from unmask.data.tokenizing.kinds import TOKENIZER_KINDS
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export.hub_weights import to_network
from unmask.export.registration import MODEL_TYPE, register
from unmask.models.causal_lm import CausalLMAsMLM
from unmask.models.files import INDEX, read_model, resolve_checkpoint, verify_manifest
from unmask.models.hf import HuggingFaceMLM
from unmask.models.hf_files import (
    dropout_of,
    is_hugging_face,
    local_folder,
    open_transformers,
    set_dropout,
    task_of,
    weights_digest,
)
from unmask.models.hf_probe import token_table
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.lightning_files import is_lightning_file
from unmask.models.networks import Network
from unmask.models.own_code import own_code
from unmask.models.published_call import PublishedCall
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.models.vocabulary_growth import grow_transformers, rebuilt
from unmask.models.weight_files import recorded_digest
from unmask.storage import digest, read_json

UNLIMITED = 2**20  # model.max_length of a network without a longest row
ABOUT_INIT = frozenset({"preset", "init", "init_shift", "init_attention", "init_step", "init_ids", "init_sha256"})
LIGHTNING_SIZES = frozenset({"nhead", "activation", "dropout", "max_length"})  # which weights do not tell
FREE = {
    "ours": frozenset({"dropout", "max_length", "causal_block", "shift", "use_flex_attn"}),
    "theirs": frozenset({"dropout"}),
}


@dataclass(frozen=True)
class Start:
    """The source of the first weights.

    Attributes:
        name: ``model.init``.
        model: a network of this package, or a model of ``transformers``.
        task: ``"ours"``, or the task of a model of ``transformers``.
        written: the source's tokenizer.
        tokenizer: the same with a mask, a padding and an end token.
        step: optimiser steps of the source; None where unknown.
        sha256: digest of the file of the weights.
        shift: of a causal model: the prediction of a token is read one position earlier.
    """

    name: str
    model: Any
    task: Literal["ours", "masked", "causal"]
    written: Tokenizer
    tokenizer: Tokenizer
    step: int | None
    sha256: str | None
    shift: bool = False

    @classmethod
    def open(cls, config: Config, trust_remote_code: bool = False) -> Start:
        """Open the source ``config.model.init``.

        Args:
            config: the config of the run.
            trust_remote_code: run code that comes with the weights.

        Raises:
            ValueError: no such source, one that is no language model, or code that is not trusted.
        """
        name = config.model.init
        assert name is not None
        shift = None if config.model.init_shift == "auto" else bool(config.model.init_shift)
        options = ForeignOptions(trust_remote_code, shift, tokenizer=config.data.tokenizer)
        if is_lightning_file(name):
            file = Path(name).expanduser()
            sizes = {key: getattr(config.model, key) for key in config.model.model_fields_set & LIGHTNING_SIZES}
            network, tokenizer, step = open_lightning_model(file, replace(options, shift=None), {}, sizes)
            return cls(name, network.float(), "ours", tokenizer, tokenizer, step, digest(file))
        if is_hugging_face(name):
            if own_code(name) is not None:
                dropout = config.model.dropout if config.model.dropout_given else None
                options = replace(options, tokenizer=None)
                network, tokenizer = open_foreign(name, options, torch.float32, dropout, config.seed)
                folder = local_folder(name)
                sha256 = None if folder is None else weights_digest(folder)
                assert isinstance(network, HuggingFaceMLM)
                written = with_required_roles(tokenizer)
                return cls(name, network.model, "masked", tokenizer, written, None, sha256, network.shift)
            return cls._of_transformers(name, config)
        folder = resolve_checkpoint(Path(name).expanduser())
        manifest = verify_manifest(folder)
        network, tokenizer = read_model(folder, trust_remote_code), Tokenizer.load(folder / "tokenizer.json")
        facts = int(manifest["step"]), recorded_digest(manifest, folder)
        network.float()
        if isinstance(network, RotaryTransformerMLMModel):
            return cls(name, network, "ours", tokenizer, tokenizer, *facts)
        if config.model.dropout_given:
            set_dropout_and_rebuild(network, config.model.dropout)
        shift = network.shift
        task: Literal["masked", "causal"] = "causal" if isinstance(network, CausalLMAsMLM) else "masked"
        return cls(name, network.model, task, tokenizer, tokenizer, *facts, shift)

    @classmethod
    def _of_transformers(cls, name: str, config: Config) -> Start:
        from transformers import AutoConfig

        register()
        try:
            theirs = AutoConfig.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model.init={name} is neither a run or a model folder here nor a model on the Hugging Face hub "
                f"({str(error).splitlines()[0]}). Give a run folder, a checkpoint, a model folder, or a hub name."
            ) from None
        task = task_of(theirs)
        if theirs.model_type != MODEL_TYPE and task is None:
            raise ValueError(
                f"model.init={name} is a {theirs.model_type} ({', '.join(theirs.architectures or ('no architecture',))}), which is "
                "neither a masked nor a causal language model. Give one with a vocabulary head, such as bert-base-uncased or gpt2."
            )
        model = open_transformers(
            name, task or "masked", config.model.dropout if config.model.dropout_given else None, config.seed
        )
        folder = local_folder(name)
        sha256 = None if folder is None else weights_digest(folder)
        written = Tokenizer.load(name)
        if theirs.model_type == MODEL_TYPE:
            export = None if folder is None else folder / "unmask_export.json"
            step = None if export is None or not export.is_file() else read_json(export).get("step")
            return cls(name, to_network(model), "ours", written, written, step, sha256)
        rows = model.get_input_embeddings().weight.shape[0]
        if rows < len(written):
            raise ValueError(
                f"model.init={name} has {rows} token embeddings, and its tokenizer has {len(written)} ids: the two do not belong together."
            )
        assert task is not None
        shift = task == "causal" and config.model.init_shift is not False
        return cls(name, model, task, written, with_required_roles(written), None, sha256, shift)

    def choose_tokenizer(self, given: str | None) -> Tokenizer:
        """Return the tokenizer of the data: the source's, or a given one that extends it.

        Args:
            given: ``data.tokenizer``.

        Raises:
            ValueError: a tokenizer with other first ids.
        """
        if given is None:
            return self.tokenizer
        if given in TOKENIZER_KINDS:
            raise ValueError(
                f"data.tokenizer={given} trains a new tokenizer, whose ids have other meanings than those of model.init={self.name}. "
                "Leave data.tokenizer out: the source's tokenizer is then used."
            )
        tokenizer = Tokenizer.load(given)
        if tokenizer.fingerprint == self.written.fingerprint:
            return self.tokenizer
        self.require_extension(tokenizer, f"data.tokenizer={given}", "data.tokenizer")
        return tokenizer

    def require_extension(self, tokenizer: Tokenizer, what: str, key: str) -> None:
        """Raise an error unless the tokenizer's first ids are those of the source.

        Args:
            tokenizer: the tokenizer of the data.
            what: how the message names it.
            key: the config key to leave out.
        """
        for id in range(len(self.written)):
            before, now = self.written.backend.id_to_token(id), tokenizer.backend.id_to_token(id)
            if before is not None and before != now:
                raise ValueError(
                    f"{what} has the token {now!r} at id {id}, and model.init={self.name} was trained with {before!r} there: ids would "
                    f"have other meanings. Leave {key} out (the source's tokenizer is then used), or give a tokenizer whose first "
                    f"{len(self.written)} ids are those of the source."
                )

    def sizes(self) -> dict[str, Any]:
        """Return the keys of the ``model`` section that describe the source's network."""
        if self.task == "ours":
            values = {key: value for key, value in self.model.config.items() if key in ModelConfig.model_fields}
            kind = "instruction_trace" if isinstance(self.model, InstructionTraceMLMModel) else "rotary"
            return {**values, "kind": kind}
        theirs, table = self.model.config.get_text_config(), token_table(self.model)
        sizes = {
            "kind": "hugging_face",
            "d_model": None if table is None else table.shape[1],
            "num_layers": _size(theirs, "num_hidden_layers", "n_layers", "n_blocks"),
            "nhead": _size(theirs, "num_attention_heads", "n_heads"),
            "dropout": dropout_of(theirs),
            "tie_embeddings": bool(theirs.tie_word_embeddings),
            "max_length": self._longest() or UNLIMITED,
        }
        return {key: value for key, value in sizes.items() if value is not None}

    def _longest(self) -> int | None:
        if self.task == "causal":
            longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
            return None if longest is None else int(longest) - self.shift
        return HuggingFaceMLM(self.model, self.tokenizer.mask_token_id).max_length

    def complete(self, config: Config) -> Config:
        """Return the config with the sizes of the source, and where its weights came from.

        Raises:
            ValueError: a given key that contradicts the source.
        """
        section, own = config.model, self.sizes()
        if self.task != "ours" and config.objective.attention:
            raise ValueError(
                f"objective.name={config.objective.name} needs a network of this package with causal attention, and model.init={self.name} is "
                "a network of transformers. Leave model.init out, or choose objective.name=diffusion."
            )
        free = FREE["ours" if self.task == "ours" else "theirs"]
        given = {key: getattr(section, key) for key in section.model_fields_set - ABOUT_INIT}
        fields = ModelConfig.model_fields
        other = {k: own.get(k, fields[k].default) for k in given if k not in free}
        wrong = {k: (given[k], value) for k, value in other.items() if given[k] != value}
        if wrong:
            changes = ", ".join(f"model.{k}={now!r} (source: {value!r})" for k, (now, value) in sorted(wrong.items()))
            raise ValueError(
                f"The network takes its sizes from model.init={self.name}, and these keys contradict it: {changes}. Leave them out; "
                f"{', '.join(sorted(f'model.{key}' for key in free))} may be given."
            )
        shifted = section.init_shift is True and not self.shift
        if self.task != "causal" and (shifted or section.init_attention != "bidirectional"):
            raise ValueError(
                f"model.init_shift and model.init_attention=annealed are for causal language models, and model.init={self.name} "
                "attends to both sides already. Leave both keys out."
            )
        if self.task == "causal" and section.init_shift not in ("auto", self.shift):
            raise ValueError(
                f"model.init={self.name} was trained with model.init_shift={str(self.shift).lower()}; leave the key out."
            )
        recorded = {"init_step": self.step, "init_ids": len(self.written), "init_sha256": self.sha256}
        for key, found in recorded.items():
            if getattr(section, key) not in (None, found):
                raise ValueError(
                    f"model.init={self.name} has {key}={found}, and the config records {getattr(section, key)}: the source has changed. "
                    f"Restore it, or leave model.{key} out to start from it as it is."
                )
        values = own | {k: v for k, v in given.items() if k in free}
        values |= {"preset": None, **recorded}
        tree = config.model_dump()
        tree["model"] |= values
        return load_config(base=tree)

    def network(self, config: ModelConfig, tokenizer: Tokenizer) -> Network:
        """Return the network with the source's weights, and a row for every id of the tokenizer.

        Args:
            config: the ``model`` section, of :meth:`complete`.
            tokenizer: the tokenizer of the data.
        """
        known, size = len(self.written), len(tokenizer)
        if self.task == "ours":
            changes = {key: getattr(config, key) for key in FREE["ours"]}
            size = max(size, self.model.num_tokens)
            return rebuilt(self.model, known, num_embeddings=size, **changes)
        grow_transformers(self.model, known, size)
        assert tokenizer.mask_token_id is not None
        if self.task == "masked":
            return HuggingFaceMLM(self.model, tokenizer.mask_token_id, self.shift)
        bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return CausalLMAsMLM(self.model, tokenizer.mask_token_id, bos, self.shift)


def _size(config: Any, *names: str) -> int | None:
    """Return a size under the first of its names that a config has."""
    return next((getattr(config, name) for name in names if getattr(config, name, None) is not None), None)


def set_dropout_and_rebuild(network: HuggingFaceMLM | CausalLMAsMLM, dropout: float) -> None:
    """Set the dropout of a network of ``transformers``, in place: its layers are made anew with the same weights."""
    weights = network.model.state_dict()
    config = network.model.config
    set_dropout(config, dropout)
    if isinstance(network.model, PublishedCall):
        network.model.model = type(network.model.model)(config)
    else:
        network.model = type(network.model)(config)
    network.model.load_state_dict(weights)


def with_start(config: Config, run: Path, trust_remote_code: bool = False) -> tuple[Config, Start | None]:
    """Return the config with all sizes of ``model.init``, and the source; None if the run is resumed instead.

    Args:
        config: the config of the run, with ``model.init``.
        run: the run folder.
        trust_remote_code: run code that comes with the weights.
    """
    saved = run / "config.yaml"
    if config.train.resume and saved.is_file() and (run / "checkpoints" / INDEX).is_file():
        before = load_config(saved).model
        given = {key: getattr(config.model, key) for key in config.model.model_fields_set - {"preset"}}
        return config.model_copy(update={"model": before.model_copy(update=given)}), None
    start = Start.open(config, trust_remote_code)
    return start.complete(config), start


def origin(config: ModelConfig) -> dict[str, Any]:
    """Return where the first weights came from, for the manifest of a checkpoint; empty for random weights."""
    if config.init is None:
        return {}
    return {"init": {"path": config.init, "step": config.init_step, "sha256": config.init_sha256}}
