"""How a run uses several processes: ``train.strategy``.

auto   one process alone, or ddp
ddp    every process holds all weights; gradients are summed (``DistributedDataParallel``)
fsdp   every process holds a part of the weights, gradients and moments (FSDP2, ``unmask.training.sharding``)
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn

from unmask.config.tree import Config
from unmask.devices import choose_device
from unmask.launch import check_devices, end_with_parent, find_launch, join
from unmask.models.files import verify_manifest, write_config
from unmask.models.weight_files import is_sharded
from unmask.training.checkpoints import STATE, VerifiedCheckpointIO
from unmask.training.sharded_checkpoints import (
    RAW,
    BackgroundSaves,
    optimizer_state,
    read_parts,
    set_optimizer_state,
    take_moments,
)
from unmask.training.sharding import release_gathered

TIMEOUT = timedelta(minutes=30)  # of a collective operation, for a process that hangs


def communication(device: str) -> str:
    """Return the backends of ``torch.distributed`` of a kind of device; tensors on the host always have gloo."""
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


def build_strategy(name: str, device: str, processes: int) -> Strategy | str:
    """Return Lightning's strategy.

    Args:
        name: ``auto``, ``ddp`` or ``fsdp``.
        device: kind of device: ``cpu``, ``cuda`` or ``mps``.
        processes: number of processes.
    """
    backend = communication(device)
    if name == "fsdp":
        return ShardedStrategy(process_group_backend=backend, timeout=TIMEOUT)
    if name == "ddp" or processes > 1:
        return DDPStrategy(process_group_backend=backend, timeout=TIMEOUT)
    return "auto"


def connect(config: Config) -> None:
    """Check the processes that a launcher started against the config, and connect them; alone, or under Lightning, do nothing.

    Raises:
        ValueError: they contradict the config.
    """
    launch = find_launch()
    check_devices(config.train.devices, config.train.nodes, launch)
    end_with_parent()
    if launch is not None and launch.processes > 1:
        join(launch, communication(choose_device(config.train.device).type), TIMEOUT)


def check_split(config: Config) -> None:
    """Check that the options of a run work on parts of weights.

    Args:
        config: the config of the run.

    Raises:
        ValueError: ``train.strategy=fsdp`` with an option that needs whole weights.
    """
    if config.train.strategy != "fsdp":
        return
    whole = "With train.strategy=fsdp every process holds a part of each weight, and"
    if config.train.lora_rank:
        raise ValueError(
            f"{whole} adapters are merged with whole weights in every checkpoint. Their gradients and moments are small: train them "
            "with train.strategy=ddp, or leave train.lora_rank out."
        )
    if config.optim.name == "muon":
        raise ValueError(
            f"{whole} Muon orthogonalises the updates of whole matrices. Set optim.name=adamw, or train.strategy=ddp."
        )
    if config.train.compile is True:
        raise ValueError(
            f"{whole} blocks are gathered by hooks, which torch.compile cannot include in one program. Set train.compile=false, or "
            "train.strategy=ddp."
        )


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all processes, with checkpoints of ``unmask.training.sharded_checkpoints``.

    Lightning's own class would mix data and tensor parallelism, and save without a manifest and with pickle.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.saves: BackgroundSaves = BackgroundSaves()

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    @property
    def _io(self) -> VerifiedCheckpointIO:
        assert isinstance(self.checkpoint_io, VerifiedCheckpointIO)
        return self.checkpoint_io

    @property
    def _module(self) -> nn.Module:
        assert self.lightning_module is not None
        return self.lightning_module

    def lightning_module_state_dict(self) -> dict[str, Any]:
        release_gathered(self._module)
        return self._module.state_dict()

    def optimizer_state(self, optimizer: Any) -> Any:
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return optimizer_state(self._module, inner)

    def _named(self, state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """Return the tensors of a state dict under their names in a checkpoint; a tied weight occurs once."""
        named = {name.removeprefix("model."): value for name, value in state.items()}
        return {f"{prefix}{name}": value for name, value in named.items() if name not in self._io.tied}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        tensors = self._named(checkpoint.pop("state_dict"))
        if "current_model_state" in checkpoint:
            tensors |= self._named(checkpoint.pop("current_model_state"), RAW)
        for states in checkpoint["optimizer_states"]:
            tensors |= take_moments(states)
        write_rest, config = self._io.writer_of_the_rest(checkpoint), self._io.model_config

        def complete(folder: Path) -> None:
            write_config(folder, config)
            write_rest(folder)

        self.saves.start(Path(filepath), tensors, complete)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint of any number of processes: weights and moments in place, and the rest as a dictionary."""
        folder = Path(checkpoint_path)
        error = None
        if self.is_global_zero:
            try:
                verify_manifest(folder)
            except ValueError as found:
                error = str(found)
        error = self.broadcast(error)
        if error is not None:
            raise ValueError(error)
        if not is_sharded(folder):
            raise ValueError(
                f"The checkpoint {folder} holds whole weights and whole moments, and train.strategy=fsdp reads parts of them. Continue the run "
                "with train.strategy=auto or ddp, or start another one from its weights with model.init=RUN and run=…."
            )
        checkpoint: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        targets = set_optimizer_state(self._module, self.optimizers[0], checkpoint["optimizer_states"][0])
        own = self._module.state_dict()  # shares the memory of the module
        checkpoint["state_dict"] = own
        if "averaging_state" in checkpoint:
            checkpoint["current_model_state"] = own
            checkpoint["state_dict"] = {name: torch.zeros_like(value) for name, value in own.items()}
            targets |= self._named(own, RAW)
        read_parts(folder, targets | self._named(checkpoint["state_dict"]))
        return checkpoint
