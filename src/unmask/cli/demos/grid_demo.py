"""``unmask demo grid``: MaskGIT on procedural pictures; every generated cell is checked against the laws of the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.config.tree import Config
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper

_MODEL: dict[str, Any] = {
    "preset": None,
    "d_model": 128,
    "num_layers": 4,
    "nhead": 4,
    "max_length": 256,
    "rotary_emb_dim": 32,
    "tie_embeddings": False,
    "local_init_layers": 1,
}
FULL: dict[str, Any] = {
    "data": {"source": "pictures", "block_size": 256},
    "model": _MODEL,
    "optim": {"name": "muon", "lr": 0.003},
    "train": {"steps": 1200, "batch_size": 16, "evaluate_every": 200, "checkpoint_every": 100, "evaluate_rows": 128},
}
QUICK: dict[str, Any] = {
    **FULL,
    "model": {**_MODEL, "d_model": 64, "num_layers": 2},
    "train": {"steps": 60, "batch_size": 16, "evaluate_every": 30, "checkpoint_every": 20, "evaluate_rows": 32},
}
PICTURES, HELD_OUT_SEED = 10_000, 1
SHEET, STEPS = 48, 32
# Decoding order of a picture: name -> options of generate().
WAYS: dict[str, dict[str, Any]] = {
    "MaskGIT": {},  # by probability of the drawn token
    "random": {"order": "random", "annealed": False},
    "coarse to fine": {"order": "coarse_to_fine", "annealed": False},
    "most confident first": {"order": "top_prob", "annealed": False},
}


def demo(quick: bool, run: Path, watch: bool | None, device: str = "auto", dtype: str = "auto") -> None:
    """Train, generate a sheet, complete half-masked pictures, animate; ``watch`` None draws the decoding on a terminal."""
    from unmask.cli.demos.closing import list_results
    from unmask.cli.demos.placing import demo_config
    from unmask.cli.screen import NOTES, heading, show
    from unmask.devices import choose_device

    config = demo_config(QUICK if quick else FULL, run, device, dtype)
    heading("1 · train a network to predict masked cells of pictures of a lake")
    show(f"Everything goes to {run}/. Interrupt at any time; the same command resumes.", style="dim")
    wrapper = train_painter(config, run).to(choose_device(device))

    heading("2 · generate pictures, and check every law in every cell")
    _report(wrapper, run, 16 if quick else 96)
    heading("3 · complete half-masked pictures")
    _show(wrapper, run, NOTES.is_terminal if watch is None else watch)
    quickly = ("--quick",) if quick else ()
    list_results(
        run,
        (
            ("samples.png", f"{SHEET} generated pictures"),
            ("unmasking.gif", "the same pictures, step by step"),
            ("completed.png", "half-masked pictures, completed, and the originals"),
            ("order.png", "decoding step of each cell: rust = early, teal = late"),
            ("data.png", "training pictures"),
            ("loss.png", "loss curve"),
            ("evaluation.json", "the figures above"),
            ("checkpoints/", "weights (safetensors) and training state"),
        ),
        (("unmask", "demo", "grid", "--watch", *quickly, "--run", str(run)),),  # draws the decoding in the terminal
    )


def make_painter(config: Config) -> NonAutoregressiveWrapper:
    """Return the network of a config, wrapped for pictures, with fresh weights."""
    import torch

    from unmask.build.network import build_model
    from unmask.contracts import SpecialIds
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper
    from unmask.tasks.landscapes import COLOURS, SIDE

    special = SpecialIds(mask=COLOURS, pad=COLOURS + 1, vocab_size=COLOURS + 2)
    net = build_model(config.model, special, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        # Masked cells always hold [MASK], because generation starts from a fully masked canvas.
        return NonAutoregressiveWrapper(
            net, mask_id=special.mask, special_ids=special.all[1:], steps=STEPS, schedule="cosine", layout=(SIDE, SIDE),
            no_replace_prob=0.0, random_token_prob=0.0, use_simple_mdlm_loss_weight=False, seed=config.seed,
        )  # fmt: skip


def train_painter(config: Config, run: Path) -> NonAutoregressiveWrapper:
    """Train a network of pictures, resume its run, or load a finished one."""
    from unmask.cli.demos.training import train_wrapper
    from unmask.tasks.landscapes import pictures
    from unmask.training.plots import plot_loss

    wrapper = make_painter(config)
    train_wrapper(
        wrapper,
        config,
        run,
        lambda: (pictures(PICTURES, config.seed), pictures(config.train.evaluate_rows, HELD_OUT_SEED)),
    )
    plot_loss(run / "metrics.csv", run / "loss.png", f"{run}: cross-entropy of masked cells")
    return wrapper


def _report(wrapper: NonAutoregressiveWrapper, run: Path, count: int) -> None:
    """Measure the fraction of generated pictures that satisfy each law, by decoding order."""
    import torch

    from unmask.cli.screen import counting, show, table
    from unmask.storage import write_json
    from unmask.tasks.landscapes import LAWS, laws, pictures

    known = {tuple(row.tolist()) for row in pictures(PICTURES)}
    figures: dict[str, Any] = {}
    with counting("generating") as progress:
        for number, (name, options) in enumerate(WAYS.items()):
            generated = wrapper.generate(count, filter_thres=None, seed=0, **options).cpu()
            kept = {law: float(k.double().mean()) for law, k in laws(generated).items()}
            new = sum(tuple(row.tolist()) not in known for row in generated) / count
            different = len({tuple(row.tolist()) for row in generated}) / count
            figures[name] = {**kept, "not_in_training": new, "different": different}
            progress(number + 1, len(WAYS))
    generator = torch.Generator().manual_seed(0)
    cells = pictures(count, HELD_OUT_SEED)
    independent = torch.stack([column[torch.randperm(count, generator=generator)] for column in cells.unbind(1)], 1)
    figures["no network"] = {law: float(k.double().mean()) for law, k in laws(independent).items()}
    margin = 1.96 * (0.25 / count) ** 0.5
    write_json(
        run / "evaluation.json", {"pictures": count, "steps": STEPS, "margin_at_one_half": margin, "painted": figures}
    )
    rows = [[name, *(f"{100 * r[law]:.0f}%" for law in (*LAWS, "all"))] for name, r in figures.items()]
    table(
        f"{count} pictures in {STEPS} steps: % that satisfy each law (± {100 * margin:.0f})",
        ["order", *LAWS, "all"],
        rows,
    )
    show("(no network: each cell drawn independently from its marginal frequencies)", style="dim")
    new, different = (100 * min(figures[name][fact] for name in WAYS) for fact in ("not_in_training", "different"))
    show(
        f"At least {new:.0f}% are not among the {PICTURES:,} training pictures; at least {different:.0f}% are distinct."
    )


def _show(wrapper: NonAutoregressiveWrapper, run: Path, watch: bool) -> None:
    """Write and show the generated and completed pictures."""
    import contextlib

    import torch

    from unmask.cli.screen import RESULTS, show
    from unmask.decode.observers.trace import Trace
    from unmask.decode.orders.grid import Grid
    from unmask.decode.render.grid_page import GridView, order_picture, save_png, sheet, sheet_png, trace_gif
    from unmask.tasks.landscapes import PALETTE, SIDE, laws, pictures

    grid, trace = Grid(SIDE, SIDE), Trace()
    best = WAYS["coarse to fine"]  # the MaskGIT order yields very likely, similar pictures
    with GridView(grid, PALETTE, RESULTS) if watch else contextlib.nullcontext() as view:
        generated = wrapper.generate(
            SHEET, filter_thres=None, seed=1, observers=[trace, *([view] if view else [])], **best
        ).cpu()
    sheet_png(run / "samples.png", generated, grid, PALETTE, columns=8, scale=6)
    sheet_png(run / "data.png", pictures(SHEET), grid, PALETTE, columns=8, scale=6)
    trace_gif(run / "unmasking.gif", trace, grid, PALETTE, columns=8, scale=6)
    save_png(run / "order.png", sheet([order_picture(trace, grid, row, 6) for row in range(16)]))

    truth = pictures(8, HELD_OUT_SEED)
    masked = torch.zeros(8, SIDE, SIDE, dtype=torch.bool)
    masked[:2, :, SIDE // 2 :] = True  # the right half, the lake with its shore, the sky, and random cells
    masked[2:4, SIDE // 2 :] = True
    masked[4:6, : SIDE // 2] = True
    masked[6:] = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.5
    given = truth.masked_fill(masked.flatten(1), wrapper.mask_id)
    completed = wrapper.generate(prompt=given, filter_thres=None, seed=2, **best).cpu()
    sheet_png(run / "completed.png", torch.cat([given, completed, truth]), grid, PALETTE, columns=8, scale=6)
    kept = laws(completed)["all"]
    show(f"{int(kept.sum())} of 8 completed pictures satisfy every law; the given cells are unchanged.")
