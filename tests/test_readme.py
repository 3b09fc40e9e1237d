"""Every command block of the README runs, in order, as a new user would run it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)

# The two set-up commands are the same targets with less to do: the demo in its quick form, the tests only collected.
SHORTER = {
    "make demo": "make demo ARGS='--quick --run runs/demo'",
    "make test": "make test ARGS='--collect-only tests/ops'",
}


def test_the_readme_starts_with_a_short_introduction_and_has_no_dead_links():
    first = README.index("```bash")
    assert README[:first].count("\n") < 12
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if target.startswith("https://"):
            continue
        assert (ROOT / target).is_file(), target


@pytest.mark.slow
def test_every_block_runs(tmp_path):
    """In a copy of the project, with the environment of this test standing in for the one that set-up makes."""
    copy = tmp_path / "unmask"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__"))
    (copy / "scripts" / "setup.sh").write_text("#!/bin/sh\nexit 0\n")
    tools = tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "activate").write_text("")
    for name, command in (
        ("unmask", f'"{sys.executable}" -m unmask.cli.main "$@"'),
        ("python", f'"{sys.executable}" "$@"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "VENV": str(tools.parent),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(copy / "src"),
        "OMP_NUM_THREADS": "2",
    }
    assert len(BLOCKS) >= 5
    for language, block in BLOCKS:
        lines = [
            SHORTER.get(line, line).replace(". .venv/", f". {tools.parent}/")
            for line in block.splitlines()
            if line.strip()
        ]
        script = "set -e\n" + "\n".join(lines) if language == "bash" else block
        program = ["bash", "-c", script] if language == "bash" else [sys.executable, "-c", script]
        done = subprocess.run(program, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
