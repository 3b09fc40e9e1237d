"""Where names become objects: with ``unmask.build_objective``, the only place that turns config words into parts."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.build_objective import build_collator, build_loss
from unmask.config import Config, ModelConfig, TrainConfig, config_yaml, load_config, save_config
from unmask.contracts import SpecialIds
from unmask.data.prepare import Prepared, Progress, prepare
from unmask.data.recipe import UNNAMED, Recipe, differences
from unmask.data.sources import Source
from unmask.data.store import TokenStore
from unmask.data.tokenizers import Tokenizer
from unmask.data.traces.grain import require_next
from unmask.devices import choose_device, choose_dtype
from unmask.models.files import INDEX, check_sealed, read_model, resolve_checkpoint, usable_checkpoint
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.running import BlockRunner, can_compile


def build_source(name: str, config: Config) -> Source:
    """The text source a config means by ``name``."""
    return Source.parse(name, field=config.data.field, unit=config.data.unit, split=config.data.split)


def with_store(config: Config) -> Config:
    """Fill in what a complete ``data.store`` was made of, where the config does not say, so that the store stands for itself."""
    recipe = None if config.data.store is None else Recipe.read(Path(config.data.store))
    if recipe is None:
        return config
    made = {name: value for name, value in asdict(recipe).items() if name not in config.data.model_fields_set and value is not None}
    if made.get("tokenizer") == UNNAMED:
        del made["tokenizer"]
    return config.model_copy(update={"data": config.data.model_copy(update=made)})


def prepare_data(
    config: Config, run: Path, workers: int | None = None, progress: Progress | None = None, given: Collection[str] | None = None
) -> Prepared:
    """Make (or find) the token stores a run trains on.

    Args:
        given: settings of ``config.data`` that a complete store must have been made with; None = all of them.

    Raises:
        ValueError: the store was made with other settings, or its source cannot be read.
    """
    data = config.data
    folder = Path(data.store) if data.store is not None else run / "data"
    if Recipe.read(folder) is not None:
        different = differences(folder, data.model_dump(), Recipe.names() if given is None else given)
        if different:
            changes = ", ".join(f"data.{name} (made with {made!r}, now {now!r})" for name, (made, now) in different.items())
            raise ValueError(
                f"The store {folder} was prepared with other settings; different: {changes}. Leave them out to train on the store as it is "
                "(data.store alone), give those it was made with, or choose another folder. (A source differs when its files were changed.)"
            )
        return Prepared.open(folder)
    return prepare(
        build_source(data.source, config),
        folder,
        tokenizer=data.tokenizer,
        vocab_size=data.vocab_size,
        valid_fraction=data.valid_fraction,
        valid_source=None if data.valid_source is None else build_source(data.valid_source, config),
        workers=workers,
        seed=data.seed,
        progress=progress,
    )


def build_model(config: ModelConfig, tokenizer: Any, seed: int) -> RotaryTransformerMLMModel:
    """A network with fresh weights, the same for the same seed whatever was drawn before."""
    special = SpecialIds.of(tokenizer)
    sizes = config.model_dump(exclude={"preset", "kind"})
    ids: dict[str, Any] = {"padding_idx": special.pad or 0, "mask_idx": special.mask}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.kind == "instruction_trace":
            next_idx = require_next(tokenizer, "model.kind=instruction_trace")
            return InstructionTraceMLMModel(special.vocab_size, next_idx=next_idx, **ids, **sizes)
        return RotaryTransformerMLMModel(special.vocab_size, **ids, **sizes)


LONG_RUN = 3e16  # multiplications and additions that earn a compilation back: five minutes at 100 TFLOP/s


def build_runner(config: TrainConfig, parameters: int, tokens_per_step: int) -> BlockRunner:
    """How a run's blocks are run.

    ``auto`` compiles for an accelerator, where a run is long enough (``6 * parameters * tokens``, Kaplan et al. 2020). On a CPU compiled
    blocks were as fast as eager ones, whose products and attention are the same (docs/performance.md).
    """
    device = choose_device(config.device).type
    is_long = 6.0 * parameters * tokens_per_step * config.steps >= LONG_RUN
    wanted = config.compile is True or (config.compile == "auto" and device != "cpu" and is_long)
    if wanted and not can_compile(device):
        warnings.warn(
            "train.compile wants a C++ compiler, and there is none here: blocks run uncompiled. Install g++ (or name one in CXX), or "
            "set train.compile=off.",
            stacklevel=2,
        )
        wanted = False
    return BlockRunner(compiled=wanted, recompute=config.checkpoint_activations)


@dataclass(frozen=True)
class Loaded:
    """A trained model with what it needs: ``unmask`` commands and scripts start here."""

    model: RotaryTransformerMLMModel
    tokenizer: Tokenizer
    config: Config
    folder: Path
    step: int
    dtype: str = "auto"


def load(path: str | Path, which: str = "last", device: str | torch.device = "cpu", dtype: str = "auto") -> Loaded:
    """Load a trained model from a run folder or a checkpoint.

    Args:
        path: run folder, checkpoints folder, or one checkpoint.
        which: ``"last"`` or ``"best"`` (by held-out loss).
        device: where the network goes: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest that is here.
        dtype: of its weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for as they were saved.

    Raises:
        ValueError: nothing there, nothing finished, or damaged; a device that is not here.
    """
    at = choose_device(device)
    kind = choose_dtype(dtype, at)
    folder = resolve_checkpoint(path, which)
    manifest = check_sealed(folder)
    model = read_model(folder).to(at, kind)
    return Loaded(model, Tokenizer.load(folder / "tokenizer.json"), load_config(folder / "run.yaml"), folder, int(manifest["step"]), dtype)


def train(config: Config, *, console: Any = None, sampler: Any = None, workers: int | None = None, progress: Progress | None = None) -> Path:
    """Prepare the data, then train or resume; the run folder is complete for ``load`` after every checkpoint.

    Args:
        config: the whole run.
        console: a Rich console for progress; None writes to standard output.
        sampler: network and tokenizer -> text, logged after each validation.
        workers: processes that tokenise; None = one per core.
        progress: of preparation.

    Returns:
        The last checkpoint's folder.

    Raises:
        ValueError: bad input, or a run folder that was made with another config.
        KeyboardInterrupt: stopped by a signal; the checkpoint is written.
    """
    from rich.console import Console

    from unmask.train.callbacks import CleanStop, MemoryWatch, MetricsTable, ProgressLine, SampleLog
    from unmask.train.checkpoints import SealedCheckpointIO
    from unmask.train.data import TokenStoreData
    from unmask.train.module import MaskedLMModule
    from unmask.train.trainer import fit, make_trainer

    run, given = Path(config.run), config.data.model_fields_set if config.data.store is not None else None
    config = with_store(config)
    resume = claim_run(config, run)
    if resume is not None and check_sealed(resume)["step"] >= config.train.steps:
        return resume
    prepared = prepare_data(config, run, workers, progress, given)
    tokenizer = Tokenizer.load(prepared.tokenizer)
    if resume is not None and Tokenizer.load(resume / "tokenizer.json").fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"The tokenizer of {prepared.folder} is not the one that the run {run} was begun with, so its ids mean other words: the "
            "source was changed and prepared anew. Give the earlier store back with data.store=…, or start in another folder with run=…."
        )
    model = build_model(config.model, tokenizer, config.seed)
    parameters = sum(p.numel() for p in model.parameters())
    model.run_block = build_runner(config.train, parameters, config.train.batch_size * config.data.block_size)
    module = MaskedLMModule(model, build_loss(config.objective, tokenizer), config.optim, config.train.steps, config.seed)
    data = TokenStoreData(
        TokenStore.open(prepared.train),
        TokenStore.open(prepared.valid),
        block_size=config.data.block_size,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        collate=build_collator(config, tokenizer, config.seed),
        collate_valid=build_collator(config, tokenizer, config.seed + 1, progress=1.0),
        evaluate_rows=config.train.evaluate_rows,
        steps=config.train.steps,
        seed=config.seed,
        workers=config.data.workers,
    )
    stop = CleanStop()
    callbacks = [
        MetricsTable(run / "metrics.csv", config.train.log_every),
        ProgressLine(console or Console(), max(config.train.log_every, config.train.steps // 20), config.train.batch_size * config.data.block_size),
        MemoryWatch(),
    ]
    if sampler is not None:
        callbacks.append(SampleLog(run / "samples.txt", lambda network: sampler(network, tokenizer)))
    callbacks.append(stop)  # after those that read how many steps there are
    extra = {**tokenizer.files(), "run.yaml": config_yaml(config)}
    trainer = make_trainer(config, run, SealedCheckpointIO({"architecture": type(model).__name__, **model.config}, extra), callbacks)
    fit(trainer, module, data, resume)
    if stop.stopped is not None:
        raise KeyboardInterrupt
    return resolve_checkpoint(run)


# What a resumed run may change: where and how it runs, and for how long; not what it computes.
FREE_TO_CHANGE = frozenset(
    {
        "run",
        "data.workers",
        "data.store",
        "train.steps",
        "train.accumulate",
        "train.checkpoint_activations",
        "train.compile",
        "train.device",
        "train.devices",
        "train.nodes",
        "train.evaluate_every",
        "train.checkpoint_every",
        "train.log_every",
        "train.resume",
    }
)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _first_process() -> bool:
    """Whether this is the process that writes: rank 0 of those that Lightning, torchrun or SLURM started."""
    rank = next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0")
    return rank == "0"


def claim_run(config: Config, run: Path) -> Path | None:
    """Write the run folder's config, or make sure that the one there computes the same.

    Returns:
        The checkpoint to resume from, or None to begin.

    Raises:
        ValueError: the folder holds a checkpoint made with another config, or is a file.
    """
    saved, index = run / "config.yaml", run / "checkpoints" / INDEX
    if run.exists() and not run.is_dir():
        raise ValueError(f"The run folder {run} is a file. Give another folder with run=….")
    if not _first_process():  # the first one claims the folder
        return resolve_checkpoint(run) if index.is_file() else None
    if saved.is_file() and not config.train.resume:
        if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            raise ValueError(
                f"train.resume=false would move the run folder {run} aside while other processes of this launch may already be reading "
                "it: processes started by torchrun or SLURM start together. Move or delete the folder first, or give another with run=…."
            )
        home = run.resolve()
        home.rename(next(p for n in itertools.count(1) if not (p := home.with_name(f"{home.name}.{n}")).exists()))
    if saved.is_file() and index.is_file():  # before its first checkpoint a run holds nothing that another config would spoil
        before, now = (_flat(c.model_dump()) for c in (load_config(saved), config))
        different = [k for k in now if k not in FREE_TO_CHANGE and before.get(k) != now[k]]
        if different:
            changes = ", ".join(f"{k} (was {before.get(k)!r}, now {now[k]!r})" for k in different[:6])
            raise ValueError(
                f"The run folder {run} was begun with another config; different: {changes}. Repeat the earlier values to resume it, "
                "give another folder with run=…, or start anew with train.resume=false (the earlier run is moved aside)."
            )
    save_config(config, saved)
    return usable_checkpoint(index.parent) if index.is_file() else None
