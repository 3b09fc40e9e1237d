"""The service as a Ray Serve deployment: replicas of one application, each with its own model and batch.

On this machine:   python examples/ray_serve.py runs/demo --replicas 2 --port 8000
On a Ray cluster:  UNMASK_MODEL=/shared/demo UNMASK_REPLICAS=2 serve run examples.ray_serve:service

API keys are read from UNMASK_SERVE_KEYS on every machine.
"""

import argparse
import os
import signal
import threading
from typing import Any

OBJECT_STORE = 100 << 20  # bytes of shared memory; requests and answers are small


def build(model: str, replicas: int = 1, cores: float = 1) -> Any:
    """Return the Ray Serve application of a model.

    Args:
        model: run folder, checkpoint, or Hugging Face model, that every machine can read.
        replicas: number of processes.
        cores: CPU cores of each.

    Raises:
        ValueError: a malformed API key.
    """
    from ray import serve

    from unmask.serve.settings import ServeSettings, read_keys

    guarded, settings = bool(read_keys(None)), ServeSettings()

    def application() -> Any:
        from dataclasses import replace
        from pathlib import Path

        from unmask.allocator import limit_product_caches, tune_malloc
        from unmask.serve.app import create_app
        from unmask.serve.settings import read_keys
        from unmask.text.loading import load

        keys = read_keys(None)
        if guarded and not keys:
            raise ValueError("The deployment has API keys, and this machine has none: set UNMASK_SERVE_KEYS here too.")
        tune_malloc()
        limit_product_caches()
        return create_app(load(model), Path(model).name, replace(settings, keys=keys))

    @serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cores},
        max_ongoing_requests=settings.max_rows + settings.max_queue,
    )
    @serve.ingress(application)
    class Unmask:
        """One replica."""

    return Unmask.bind()


def serve_here(model: str, replicas: int, cores: float, port: int) -> None:
    """Serve on this machine, in a Ray cluster of its own, until SIGINT or SIGTERM."""
    # Ray restarts a proxy that takes 5 s to start, again and again on a busy machine.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    import ray
    from ray import serve

    stopped = threading.Event()
    ray.init(num_cpus=max(1, round(replicas * cores)), object_store_memory=OBJECT_STORE, include_dashboard=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build(model, replicas, cores))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        print(f"Serving {model} at http://127.0.0.1:{port} with {replicas} replicas. Stop with Ctrl-C.", flush=True)
        stopped.wait()
    finally:
        serve.shutdown()
        ray.shutdown()


if "UNMASK_MODEL" in os.environ:
    service = build(os.environ["UNMASK_MODEL"], int(os.environ.get("UNMASK_REPLICAS", "1")))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="run folder, checkpoint, or Hugging Face model")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--cores", type=float, default=1, help="CPU cores of each replica")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    if given.model is None:
        parser.print_help()
    else:
        serve_here(given.model, given.replicas, given.cores, given.port)
