"""Run the command blocks of a page as a reader would type them, with less training."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FEW = " train.steps=2 train.batch_size=4 train.evaluate_rows=4 train.evaluate_every=100 model.num_layers=1 model.d_model=64 model.nhead=2"

# What a test shortens: a pattern of a line, and what stands in for it. The pages show the user's own commands.
SHORTER = [
    (r"^make demo$", "make demo ARGS='--quick --run runs/demo'"),
    (r"^make test$", "make test ARGS='--collect-only tests/ops'"),
    (r"^make (test-slow|lint|docs|setup|bench).*", "true"),
    (r"^pip install .*", "true"),
    (r"^(unmask demo \w+)$", r"\1 --quick"),
    (r"^(torchrun .*-m unmask train (?=.*--preset).*?)(\s*#.*)?$", r"\1" + FEW),
    (r"^(unmask train (?!.*--print-config)(?=.*(?:--preset|my\.yaml)).*?)(\s*#.*)?$", r"\1" + FEW),
]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page that run: language and text."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def shorter(line: str) -> str:
    """A line of a shell block with less to do."""
    for pattern, instead in SHORTER:
        line, changed = re.subn(pattern, instead, line)
        if changed:
            return line
    return line


class Place:
    """A copy of the project in which blocks run, with this test's environment standing in for the one that set-up makes."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "unmask"
        ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", "build", ".mypy_cache", ".ruff_cache")
        shutil.copytree(ROOT, self.copy, ignore=lambda at, names: ignored(at, names) if Path(at) == ROOT else [])
        (self.copy / "scripts" / "setup.sh").write_text("#!/bin/sh\nexit 0\n")
        self.tools = folder / "venv" / "bin"
        self.tools.mkdir(parents=True)
        (self.tools / "activate").write_text("")
        for name, arguments in (("unmask", "-m unmask "), ("python", ""), ("torchrun", "-m torch.distributed.run ")):
            command = f'"{sys.executable}" {arguments}"$@"'
            (self.tools / name).write_text(f"#!/bin/sh\nexec {command}\n")
            (self.tools / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "VENV": str(self.tools.parent),
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.copy / "src"),
            "OMP_NUM_THREADS": "2",
        }

    def run(self, language: str, block: str) -> None:
        """Run one block; a failure shows what it printed."""
        lines = [
            shorter(line).replace(". .venv/", f". {self.tools.parent}/") for line in block.splitlines() if line.strip()
        ]
        script = "set -e\n" + "\n".join(lines) if language == "bash" else block
        program = ["bash", "-c", script] if language == "bash" else [sys.executable, "-c", script]
        done = subprocess.run(program, cwd=self.copy, env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
