"""Checkpoints: folders with a manifest, and an index that names the last and the best of them.

    run/checkpoints/index.json       {"last": "step-00000400", "best": ..., "best_loss": ...}
    run/checkpoints/step-00000400/   model folder (unmask.models.files), tokenizer.json, tokenizer_config.json, run.yaml, training_state.pt,
                                     lora.safetensors

A folder is written under a temporary name, renamed, and only then entered in the index. A kill or a full disk at any moment
therefore leaves the previous checkpoint valid. ``model.safetensors`` holds the weights for inference: the averaged weights if
the run keeps an average. A run with ``train.strategy=fsdp`` has a folder ``sharded`` in its place
(``unmask.training.sharded_checkpoints``).
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import CheckpointIO
from safetensors.torch import load_file, save_file

from unmask.models.files import INDEX, verify_manifest, write_manifest, write_model
from unmask.models.tied_weights import restore_tied
from unmask.models.weight_files import is_sharded, read_weights
from unmask.run_folder import named_checkpoints
from unmask.storage import atomic_folder, read_json, sweep_temporaries, write_json
from unmask.training.sharded_checkpoints import WritesInBackground

if TYPE_CHECKING:
    from unmask.training.lora import AdaptedLayers

STATE = "training_state.pt"
ADAPTERS = "lora.safetensors"


class VerifiedCheckpointIO(CheckpointIO):
    """Write Lightning's checkpoints as folders with a manifest, and read them back after verifying it.

    Args:
        model_config: ``architecture`` and what the network is rebuilt from, for ``config.json``.
        extra_files: further files of the folder: name -> text.
        tied: of :func:`unmask.models.tied_weights.tied_names`; None = no tied weights.
        facts: further facts of the manifest, such as ``init``: where the first weights came from.
        adapted: layers with LoRA adapters, which are merged in ``model.safetensors``; None = no adapters.
    """

    def __init__(
        self,
        model_config: dict[str, Any],
        extra_files: dict[str, str],
        tied: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
        adapted: AdaptedLayers | None = None,
    ) -> None:
        self.model_config = model_config
        self.extra_files = extra_files
        self.tied: Mapping[str, str] = tied or {}
        self.facts: Mapping[str, Any] = facts or {}
        self.adapted = adapted

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        if path.exists():  # the same step was saved before the run was resumed from an earlier one
            shutil.rmtree(path)
        state = {k: v for k, v in checkpoint.items() if k != "state_dict"}
        with atomic_folder(path) as folder:
            weights = {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items()}
            if self.adapted is not None:
                weights, parts = self.adapted.merge(weights)
                save_file({name: part.detach().contiguous().cpu() for name, part in parts.items()}, folder / ADAPTERS)
            write_model(folder, self.model_config, weights)
            self.writer_of_the_rest(state)(folder)

    def writer_of_the_rest(self, state: dict[str, Any]) -> Callable[[Path], None]:
        """Return a function that completes a folder with weights and ``config.json``; the state is copied now."""
        buffer = io.BytesIO()
        torch.save(state, buffer)

        def complete(folder: Path) -> None:
            for name, text in self.extra_files.items():
                (folder / name).write_text(text, encoding="utf-8")
            (folder / STATE).write_bytes(buffer.getbuffer())
            write_manifest(folder, step=state["global_step"], **self.facts)

        return complete

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(path)
        verify_manifest(path)
        if is_sharded(path):
            raise ValueError(
                f"The checkpoint {path} holds parts of weights and of moments: continue the run with train.strategy=fsdp, on any number of "
                "devices, or start another one from its weights with model.init=RUN and run=…."
            )
        checkpoint: dict[str, Any] = torch.load(path / STATE, map_location=map_location or "cpu", weights_only=True)
        weights = read_weights(path)
        if self.adapted is not None:
            weights = self.adapted.restore(weights, load_file(path / ADAPTERS))
        restore_tied(weights, self.tied)
        checkpoint["state_dict"] = {f"model.{k}": v for k, v in weights.items()}
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path, ignore_errors=True)


class Checkpoints(Callback):
    """Save every ``every`` steps, after an improved validation loss, and at the end; keep the last ones and the best one.

    Args:
        folder: ``run/checkpoints``.
        every: steps between checkpoints.
        evaluate_every: steps between validations. A checkpoint of the same step is saved after the validation, so that a run
            killed during validation repeats it.
        keep: latest checkpoints to keep, besides the best one.
    """

    def __init__(self, folder: Path, every: int, evaluate_every: int, keep: int = 1) -> None:
        self.folder = folder
        self.every = every
        self.evaluate_every = evaluate_every
        self.keep = keep
        self.index: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.folder.is_dir():
            sweep_temporaries(self.folder)
        if (self.folder / INDEX).is_file():
            self.index = read_json(self.folder / INDEX)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        at_step_end = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if at_step_end and trainer.global_step % self.every == 0 and trainer.global_step % self.evaluate_every:
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("valid/loss")
        if loss is not None and float(loss) < self.index.get("best_loss", float("inf")):
            self.save(trainer, best_loss=float(loss))
        elif trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step:
            self.save(trainer)
        if isinstance(trainer.strategy, WritesInBackground):
            trainer.strategy.saves.wait()
        trainer.strategy.barrier()  # the others read the index that the first process has written

    def save(self, trainer: Trainer, best_loss: float | None = None) -> None:
        """Write the checkpoint of this step, update the index, and delete the checkpoints that it no longer names."""
        strategy, name = trainer.strategy, f"step-{trainer.global_step:08d}"
        if isinstance(strategy, WritesInBackground):
            strategy.saves.wait()
        if not strategy.broadcast(self.index.get("last") == name and (self.folder / name).is_dir()):
            trainer.save_checkpoint(self.folder / name)
        earlier = self.index.pop("kept", [self.index["last"]] if "last" in self.index else [])
        if self.keep > 1:
            present = [each for each in earlier if each != name and (self.folder / each).is_dir()]
            self.index["kept"] = [*present, name][-self.keep :]
        self.index["last"] = name
        if best_loss is not None:
            self.index |= {"best": name, "best_loss": best_loss}
        commit = partial(self._commit, deepcopy(self.index))
        if isinstance(strategy, WritesInBackground):
            strategy.saves.then(commit)
        elif trainer.is_global_zero:
            commit()

    def _commit(self, index: dict[str, Any]) -> None:
        write_json(self.folder / INDEX, index)
        for folder in self.folder.glob("step-*"):
            if folder.name not in named_checkpoints(index):
                shutil.rmtree(folder, ignore_errors=True)
