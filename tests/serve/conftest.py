"""A real server process with the small trained model of the command line's tests."""

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

import unmask as package
from tests.cli.conftest import corpus, trained, unmask  # noqa: F401 (fixtures)

pytest.importorskip("fastapi")


@contextmanager
def server(run, *options, environment=None):
    """Start ``unmask serve`` on a free port; yield its process and URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "serve", str(run), "--port", "0", *map(str, options)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    lines: list[str] = []
    process.said = lines
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"at (http://\S+) ", line):
                break
        else:
            raise AssertionError("".join(lines))
        threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
        yield process, found[1]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def served(trained):  # noqa: F811
    with server(trained, "--read-seconds", 2, "--max-body", 20_000, "--name", "small") as (_, url):
        yield url


@pytest.fixture(scope="session")
def model(trained):  # noqa: F811
    return package.load(trained)
