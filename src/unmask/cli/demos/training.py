"""Train a ``NonAutoregressiveWrapper`` on rows in memory, with the same training loop as all runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.config.tree import Config
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper


def train_wrapper(
    wrapper: NonAutoregressiveWrapper, config: Config, run: Path, rows: Callable[[], tuple[Tensor, Tensor]]
) -> None:
    """Train a wrapper, or resume its run; a finished run is loaded. The wrapper ends in eval mode with the last checkpoint.

    Args:
        wrapper: a wrapper with fresh weights.
        config: the config of the run; seed, optimiser and training section have an effect.
        run: the run folder.
        rows: function that returns training and validation rows, int64 ``[N, L]`` each; not called for a finished run.

    Raises:
        ValueError: a folder with a run of another config.
        KeyboardInterrupt: training was stopped by a signal, after writing a checkpoint.
    """
    from unmask.cli.screen import NOTES
    from unmask.config.config_file import config_yaml
    from unmask.data.store.token_array import TokenArray
    from unmask.models.files import resolve_checkpoint, verify_manifest
    from unmask.nonautoregressive.wrapper_files import WrapperCheckpointIO, read_weights
    from unmask.nonautoregressive.wrapper_loss import WrapperObjective
    from unmask.run_folder import hold_run
    from unmask.runs import open_run
    from unmask.training.callbacks import CleanStop, MetricsTable, ProgressLine
    from unmask.training.data import TokenStoreData
    from unmask.training.module import MaskedLMModule
    from unmask.training.trainer import fit, make_trainer

    with hold_run(run):
        resume = open_run(config, run)
        if resume is None or verify_manifest(resume)["step"] < config.train.steps:
            train, valid = rows()
            data = TokenStoreData(
                TokenArray(train.flatten()),
                TokenArray(valid.flatten()),
                block_size=wrapper.max_seq_len,
                batch_size=config.train.batch_size,
                accumulate=config.train.accumulate,
                collate=wrapper.masking,
                collate_valid=replace(wrapper.masking, seed=config.seed + 1),
                evaluate_rows=config.train.evaluate_rows,
                steps=config.train.steps,
                seed=config.seed,
            )
            stop = CleanStop()
            progress = ProgressLine(
                NOTES,
                max(config.train.log_every, config.train.steps // 20),
                config.train.batch_size * wrapper.max_seq_len,
            )
            io = WrapperCheckpointIO(wrapper, wrapper.net.config, {"run.yaml": config_yaml(config)})
            trainer = make_trainer(
                config, run, io, [MetricsTable(run / "metrics.csv", config.train.log_every), progress, stop]
            )
            module = MaskedLMModule(
                wrapper, WrapperObjective(), config.optim, config.train.steps, config.seed, config.train.non_finite
            )
            fit(trainer, module, data, resume)
            if stop.stopped is not None:
                raise KeyboardInterrupt
    read_weights(resolve_checkpoint(run), wrapper)
    wrapper.eval()
