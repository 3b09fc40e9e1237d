"""``unmask``: the commands, and what a user sees when something is wrong.

A command's module is imported only to describe its options, so it must stay light: torch and everything above it are imported
inside the command. Errors of input or of the machine are one paragraph and exit code 1; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import typer

from unmask.allocator import tune_malloc
from unmask.cli.bench import bench
from unmask.cli.demo import demo
from unmask.cli.disassemble import disassemble
from unmask.cli.evaluate import evaluate
from unmask.cli.export import export
from unmask.cli.fill import fill
from unmask.cli.generate import generate
from unmask.cli.prepare import prepare
from unmask.cli.score import score
from unmask.cli.train import train
from unmask.suggestions import RENAMED

app = typer.Typer(
    name="unmask",
    help="Masked language models: train, evaluate, decode. Start with [bold]unmask demo[/bold].",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (demo, prepare, disassemble, train, evaluate, generate, fill, score, export, bench):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"unmask {version('unmask')}")
        raise typer.Exit()


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks instead of one-paragraph errors."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    if debug:
        os.environ["UNMASK_DEBUG"] = "1"


def fail(error: BaseException) -> None:
    """One paragraph on standard error."""
    text = " ".join(str(error.strerror if isinstance(error, OSError) and error.strerror else error).split())
    if isinstance(error, OSError) and error.filename and str(error.filename) not in text:
        text = f"{error.filename}: {text}"
    print(f"unmask: {text or type(error).__name__}", file=sys.stderr)


def _remark(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of ours is one paragraph; those of other libraries keep their place in the source."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        return f"Note: {' '.join(str(message).split())}\n"
    return _format_warning(message, category, filename, lineno, line)


_format_warning = warnings.formatwarning


def replace_unwritable() -> None:
    """Let standard output and error replace what their encoding cannot write (such as ``\\u65e5``), so that no work is lost to it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _name_renamed_options() -> None:
    """After a command line that could not be parsed: the new names of its options of earlier versions."""
    for option in sys.argv[1:]:
        word = option.partition("=")[0].removeprefix("--").replace("-", "_")
        if option.startswith("--") and word in RENAMED:
            print(
                f"unmask: {option.partition('=')[0]} is now called --{RENAMED[word].replace('_', '-')}.",
                file=sys.stderr,
            )


def run() -> None:
    """The console entry point."""
    warnings.formatwarning = _remark
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tune_malloc()
    replace_unwritable()
    try:
        app()
    except SystemExit as stop:
        if stop.code == 130:  # what Typer makes of KeyboardInterrupt
            print("unmask: stopped. Run the same command again to continue where it was.", file=sys.stderr)
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
                f"{type(error).__name__}: {error}. This case is not foreseen: `unmask --debug …` shows where it happens."
            )
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
