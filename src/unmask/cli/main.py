"""``unmask``: the commands, and the report of errors.

The modules of commands are imported to describe their options, so they stay light: torch and everything above it are imported
inside the commands. An error is one paragraph on standard error and exit code 1; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import typer

from unmask.allocator import limit_product_caches, tune_malloc
from unmask.cli.bench import bench
from unmask.cli.classify import classify
from unmask.cli.compare import compare
from unmask.cli.demo import demo
from unmask.cli.disassemble import disassemble
from unmask.cli.embed import embed
from unmask.cli.evaluate import evaluate
from unmask.cli.export import export
from unmask.cli.fill import fill
from unmask.cli.generate import generate
from unmask.cli.info import info
from unmask.cli.lm_eval import lm_eval
from unmask.cli.orders import orders
from unmask.cli.prepare import prepare
from unmask.cli.samples import samples
from unmask.cli.score import score
from unmask.cli.serve import serve
from unmask.cli.task import task
from unmask.cli.train import train
from unmask.cli.tune import tune
from unmask.suggestions import RENAMED

app: typer.Typer = typer.Typer(
    name="unmask",
    help="Masked language models: train, evaluate, decode. Start with [bold]unmask demo[/bold].",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS = (
    demo, prepare, disassemble, train, evaluate, compare, orders, tune, generate, fill, score, samples, task, embed, serve, info, export, bench,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(classify, name="classify")
# All further arguments, --help too, are those of the harness.
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
app.command("lm-eval", context_settings=_PASSED_ON)(lm_eval)


def _version(requested: bool) -> None:
    if requested:
        from unmask import __version__

        print(f"unmask {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks instead of one-paragraph errors."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Set the options that precede a command."""
    if debug:
        os.environ["UNMASK_DEBUG"] = "1"


def fail(error: BaseException) -> None:
    """Print an error as one paragraph on standard error."""
    text = " ".join(str(error.strerror if isinstance(error, OSError) and error.strerror else error).split())
    if isinstance(error, OSError) and error.filename and str(error.filename) not in text:
        text = f"{error.filename}: {text}"
    print(f"unmask: {text or type(error).__name__}", file=sys.stderr)


def _remark(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning of this package as one paragraph; warnings of other libraries keep their file and line."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        return f"Note: {' '.join(str(message).split())}\n"
    return _format_warning(message, category, filename, lineno, line)


_format_warning = warnings.formatwarning


def replace_unwritable() -> None:
    """Make standard output and error escape characters outside their encoding (``\\u65e5``) instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _name_renamed_options() -> None:
    """Print the current name of every renamed option, after a command line that could not be parsed."""
    for option in sys.argv[1:]:
        word = option.partition("=")[0].removeprefix("--").replace("-", "_")
        if option.startswith("--") and word in RENAMED:
            print(
                f"unmask: {option.partition('=')[0]} is now called --{RENAMED[word].replace('_', '-')}.",
                file=sys.stderr,
            )


def run() -> None:
    """Run the command line (the console entry point)."""
    warnings.formatwarning = _remark
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tune_malloc()
    limit_product_caches()
    replace_unwritable()
    try:
        app()
    except SystemExit as stop:
        if stop.code == 130:  # Typer's code for KeyboardInterrupt
            print("unmask: stopped. Run the same command again to resume.", file=sys.stderr)
        if stop.code == 2:
            _name_renamed_options()
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        if os.environ.get("UNMASK_DEBUG"):
            raise
        fail(error)
        raise SystemExit(1) from None
    except Exception as error:
        if os.environ.get("UNMASK_DEBUG"):
            raise
        fail(
            RuntimeError(
                f"{type(error).__name__}: {error}. This error was not expected: repeat the command as `unmask --debug …` for a "
                "traceback."
            )
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
