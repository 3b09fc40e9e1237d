"""Two local replicas of ``examples/ray_serve.py`` behind one address answer as the library does."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.blocks import ROOT

PROGRAM = """
import sys, time
import ray
from ray import serve
from examples.ray_serve import build

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(build(sys.argv[1], replicas=2, cores=0.5))
replicas = next(iter(serve.status().applications["default"].deployments.values())).replica_states
print("replicas", {str(getattr(state, "value", state)): count for state, count in replicas.items()}, flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'unmask[ray]'")
def test_two_replicas_answer_as_the_library_does(trained, model, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "errors", "w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(trained), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **quiet, "PYTHONPATH": path},
        )
        try:
            line = next((line for line in process.stdout if line.startswith("replicas")), None)
            assert line == "replicas {'RUNNING': 2}\n", (tmp_path / "errors").read_text()[-3000:]
            url = f"http://127.0.0.1:{port}"

            def ask(seed):
                body = {"text": "the [MASK:3] sees", "order": "random", "temperature": 1.0, "seed": seed}
                return httpx.post(f"{url}/v1/fill", json=body, timeout=60).json()["text"]

            with ThreadPoolExecutor(8) as pool:
                texts = list(pool.map(ask, range(16)))
            options = {"order": "random", "temperature": 1.0}
            assert texts == [model.fill("the [MASK:3] sees", seed=seed, **options).text for seed in range(16)]
            started, until = set(), time.monotonic() + 20
            while len(started) < 2 and time.monotonic() < until:
                with ThreadPoolExecutor(8) as pool:
                    pages = pool.map(lambda n: httpx.get(f"{url}/metrics", timeout=60).text, range(16))
                    started |= {re.search(r"^unmask_forward_passes_created (\S+)", page, re.M)[1] for page in pages}
            assert len(started) == 2
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
