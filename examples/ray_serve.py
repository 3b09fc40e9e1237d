"""The service as a Ray Serve deployment: replicas of one application, each with its own model and batch.

UNMASK_MODEL=runs/demo UNMASK_REPLICAS=2 serve run examples.ray_serve:service
"""

import os
from typing import Any


def build(model: str, replicas: int = 1, cores: float = 1) -> Any:
    """Return the Ray Serve application of a model.

    Args:
        model: run folder, checkpoint, or Hugging Face model, that every machine can read.
        replicas: number of processes.
        cores: CPU cores of each.
    """
    from ray import serve

    def application() -> Any:
        from pathlib import Path

        from unmask.serve.app import create_app
        from unmask.serve.settings import ServeSettings, read_keys
        from unmask.text.loading import load

        return create_app(load(model), Path(model).name, ServeSettings(keys=read_keys(None)))

    @serve.deployment(num_replicas=replicas, ray_actor_options={"num_cpus": cores}, max_ongoing_requests=320)
    @serve.ingress(application)
    class Unmask:
        """One replica."""

    return Unmask.bind()


if "UNMASK_MODEL" in os.environ:
    service = build(os.environ["UNMASK_MODEL"], int(os.environ.get("UNMASK_REPLICAS", "1")))

if __name__ == "__main__":
    print(__doc__)
