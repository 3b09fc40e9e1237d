"""``unmask demo grid``: MaskGIT on pictures that a procedure paints, and what it paints itself, judged cell by cell."""

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
# How a row is painted: name -> options of generate().
WAYS: dict[str, dict[str, Any]] = {
    "MaskGIT": {},  # the surest of the drawn
    "random": {"order": "random", "annealed": False},
    "coarse to fine": {"order": "coarse_to_fine", "annealed": False},
    "surest first": {"order": "top_prob", "annealed": False},
}


def demo(quick: bool, run: Path, watch: bool | None, device: str = "auto", dtype: str = "auto") -> None:
    """Train, paint a sheet, complete half-hidden pictures, animate; ``watch`` None draws the painting on a terminal."""
    from unmask.cli.demos.closing import where_it_all_is
    from unmask.cli.demos.placing import demo_config
    from unmask.cli.screen import NOTES, heading, show
    from unmask.devices import choose_device

    config = demo_config(QUICK if quick else FULL, run, device, dtype)
    heading("1 · train a network to paint hidden cells of pictures at a lake")
    show(f"Everything goes to {run}/. Interrupt at any time; the same command continues.", style="dim")
    wrapper = train_painter(config, run).to(choose_device(device))

    heading("2 · paint, and check every law in every cell")
    _report(wrapper, run, 16 if quick else 96)
    heading("3 · complete pictures of which half is hidden, and watch")
    _show(wrapper, run, NOTES.is_terminal if watch is None else watch)
    quickly = ("--quick",) if quick else ()
    where_it_all_is(
        run,
        (
            ("samples.png", f"{SHEET} pictures it painted from nothing"),
            ("unmasking.gif", "the same, step by step"),
            ("completed.png", "half hidden, completed, as it was"),
            ("order.png", "when each cell of the first pictures was painted: rust early, teal late"),
            ("data.png", "pictures it learnt from"),
            ("loss.png", "loss curve"),
            ("evaluation.json", "the figures above"),
            ("checkpoints/", "weights (safetensors) and training state"),
        ),
        (
            ("unmask", "demo", "grid", "--watch", *quickly, "--run", str(run)),
        ),  # draws a picture in the terminal while it is painted
    )


def make_painter(config: Config) -> NonAutoregressiveWrapper:
    """The network of a config, wrapped for pictures, with fresh weights."""
    import torch

    from unmask.build.network import build_model
    from unmask.contracts import SpecialIds
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper
    from unmask.tasks.landscapes import COLOURS, SIDE

    special = SpecialIds(mask=COLOURS, pad=COLOURS + 1, vocab_size=COLOURS + 2)
    net = build_model(config.model, special, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        # Nothing is kept or made random: an empty canvas is part of what is learnt.
        return NonAutoregressiveWrapper(
            net, mask_id=special.mask, special_ids=special.all[1:], steps=STEPS, schedule="cosine", layout=(SIDE, SIDE),
            no_replace_prob=0.0, random_token_prob=0.0, use_simple_mdlm_loss_weight=False, seed=config.seed,
        )  # fmt: skip


def train_painter(config: Config, run: Path) -> NonAutoregressiveWrapper:
    """Train, or go on, or find it done; through the one training loop."""
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
    plot_loss(run / "metrics.csv", run / "loss.png", f"{run}: cross-entropy of hidden cells")
    return wrapper


def _report(wrapper: NonAutoregressiveWrapper, run: Path, count: int) -> None:
    """Which share of painted pictures keeps which law, by the order in which they were painted."""
    import torch

    from unmask.cli.screen import counting, show, table
    from unmask.storage import write_json
    from unmask.tasks.landscapes import LAWS, laws, pictures

    known = {tuple(row.tolist()) for row in pictures(PICTURES)}
    found: dict[str, Any] = {}
    with counting("painting") as told:
        for number, (name, options) in enumerate(WAYS.items()):
            painted = wrapper.generate(count, filter_thres=None, seed=0, **options).cpu()
            kept = {law: float(k.double().mean()) for law, k in laws(painted).items()}
            new = sum(tuple(row.tolist()) not in known for row in painted) / count
            found[name] = {**kept, "not_in_training": new, "different": len(painted.unique(dim=0)) / count}
            told(number + 1, len(WAYS))
    generator = torch.Generator().manual_seed(0)
    cells = pictures(count, HELD_OUT_SEED)
    alone = torch.stack([column[torch.randperm(count, generator=generator)] for column in cells.unbind(1)], 1)
    found["no network"] = {law: float(k.double().mean()) for law, k in laws(alone).items()}
    margin = 1.96 * (0.25 / count) ** 0.5
    write_json(
        run / "evaluation.json", {"pictures": count, "steps": STEPS, "margin_at_one_half": margin, "painted": found}
    )
    rows = [[name, *(f"{100 * r[law]:.0f}%" for law in (*LAWS, "all"))] for name, r in found.items()]
    table(
        f"{count} pictures in {STEPS} steps: % that keep each law (± {100 * margin:.0f})", ["order", *LAWS, "all"], rows
    )
    show("(no network: each cell drawn from its own frequencies)", style="dim")
    new, different = (100 * min(found[name][fact] for name in WAYS) for fact in ("not_in_training", "different"))
    show(
        f"At least {new:.0f}% are none of the {PICTURES:,} it learnt from; at least {different:.0f}% differ from each other."
    )


def _show(wrapper: NonAutoregressiveWrapper, run: Path, watch: bool) -> None:
    """The pictures themselves."""
    import contextlib

    import torch

    from unmask.cli.screen import RESULTS, show
    from unmask.decode.observers.trace import Trace
    from unmask.decode.orders.grid import Grid
    from unmask.decode.render.grid_page import GridView, order_picture, save_png, sheet, sheet_png, trace_gif
    from unmask.tasks.landscapes import PALETTE, SIDE, laws, pictures

    grid, trace = Grid(SIDE, SIDE), Trace()
    best = WAYS["coarse to fine"]  # the surest of the drawn are the likeliest of all, and much alike
    with GridView(grid, PALETTE, RESULTS) if watch else contextlib.nullcontext() as view:
        painted = wrapper.generate(
            SHEET, filter_thres=None, seed=1, observers=[trace, *([view] if view else [])], **best
        ).cpu()
    sheet_png(run / "samples.png", painted, grid, PALETTE, columns=8, scale=6)
    sheet_png(run / "data.png", pictures(SHEET), grid, PALETTE, columns=8, scale=6)
    trace_gif(run / "unmasking.gif", trace, grid, PALETTE, columns=8, scale=6)
    save_png(run / "order.png", sheet([order_picture(trace, grid, row, 6) for row in range(16)]))

    truth = pictures(8, HELD_OUT_SEED)
    hidden = torch.zeros(8, SIDE, SIDE, dtype=torch.bool)
    hidden[:2, :, SIDE // 2 :] = True  # the right half, the lake with its shore, the sky, and cells anywhere
    hidden[2:4, SIDE // 2 :] = True
    hidden[4:6, : SIDE // 2] = True
    hidden[6:] = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.5
    given = truth.masked_fill(hidden.flatten(1), wrapper.mask_id)
    completed = wrapper.generate(prompt=given, filter_thres=None, seed=2, **best).cpu()
    sheet_png(run / "completed.png", torch.cat([given, completed, truth]), grid, PALETTE, columns=8, scale=6)
    kept = laws(completed)["all"]
    show(f"{int(kept.sum())} of 8 completed pictures keep every law; what was given is untouched.")
