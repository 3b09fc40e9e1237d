"""The service under load: closed-loop clients, one process, one model.

    single       one client: one request at a time
    static       all clients, and batches that nothing joins before they are done
    continuous   all clients, continuous batching

python -m benchmarks.serve --model runs/demo --clients 64 --seconds 60 [--requests 10000] [--json FILE]

Each mode has a server process of its own on 127.0.0.1. The clients draw the same requests: mixed lengths, steps, orders and seeds. ``--requests``
then sends that many more to the continuous server and reports its resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODES = {"single": (), "static": ("--static",), "continuous": ()}


def bodies(seed: int, most: int) -> Any:
    """Yield requests: 8 to ``most`` new tokens in 4 to 16 steps; most of them short, as in the wild."""
    generator = random.Random(seed)
    while True:
        length = min(most, int(generator.choice([8, 8, 12, 16, 24, 32, 48])))
        yield {
            "text": generator.choice(["The for statement", "Return the name of", "If the file does not exist,"]),
            "length": length,
            "steps": min(length, generator.choice([4, 8, 8, 12, 16, 32])),
            "order": generator.choice(["random", "random", "top_prob"]),
            "temperature": 0.8,
            "seed": generator.randrange(1 << 30),
        }


@contextmanager
def server(model: str, *options: str) -> Any:
    """Start a server; yield its URL and process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "serve", model, "--port", "0", *options], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        url = ""
        for line in process.stderr:
            if found := re.search(r"at (http://\S+) ", line):
                url = found[1]
                break
        if not url:
            raise RuntimeError("The server did not start.")
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


async def load(url: str, clients: int, seconds: float, requests: int | None, most: int) -> dict[str, Any]:
    """Send requests from ``clients`` for some time, or until ``requests`` are answered."""
    import httpx

    times: list[float] = []
    tokens, errors, sent = 0, 0, 0
    begun = time.monotonic()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as session:

        async def client(number: int) -> None:
            nonlocal tokens, errors, sent
            for body in bodies(number, most):
                if (requests is not None and sent >= requests) or (
                    requests is None and time.monotonic() - begun > seconds
                ):
                    return
                sent += 1
                start = time.monotonic()
                reply = await session.post("/v1/generate", json=body)
                if reply.status_code != 200:
                    errors += 1
                    continue
                times.append(time.monotonic() - start)
                tokens += body["length"]

        await asyncio.gather(*(client(number) for number in range(clients)))
    spent = time.monotonic() - begun
    times.sort()
    return {
        "clients": clients,
        "requests": len(times),
        "errors": errors,
        "requests_per_second": round(len(times) / spent, 2),
        "tokens_per_second": round(tokens / spent, 1),
        "p50_seconds": round(times[len(times) // 2], 3) if times else None,
        "p99_seconds": round(times[min(len(times) - 1, int(len(times) * 0.99))], 3) if times else None,
    }


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(model: str, clients: int, seconds: float, requests: int, most: int) -> dict[str, Any]:
    """Measure all modes."""
    figures: dict[str, Any] = {}
    for mode, options in MODES.items():
        with server(model, *options, "--max-rows", str(clients), "--max-queue", str(4 * clients)) as (url, pid):
            asyncio.run(load(url, min(clients, 4), min(seconds, 3), None, most))  # warm
            figures[mode] = asyncio.run(load(url, 1 if mode == "single" else clients, seconds, None, most))
            if mode == "continuous" and requests:
                memory = []
                for _ in range(10):
                    asyncio.run(load(url, clients, 0, requests // 10, most))
                    memory.append(round(resident(pid) / 2**20, 1))
                figures["memory_mib_over_requests"] = {"requests": requests, "resident": memory}
    base = figures["continuous"]["tokens_per_second"]
    figures["continuous_over_single"] = round(base / max(figures["single"]["tokens_per_second"], 1e-9), 2)
    figures["continuous_over_static"] = round(base / max(figures["static"]["tokens_per_second"], 1e-9), 2)
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| mode | clients | requests/s | tokens/s | p50 s | p99 s | errors |", "|---|---|---|---|---|---|---|"]
    for mode in MODES:
        f = figures[mode]
        cells = (
            mode,
            f["clients"],
            f["requests_per_second"],
            f["tokens_per_second"],
            f["p50_seconds"],
            f["p99_seconds"],
            f["errors"],
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="runs/demo")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=0, help="further requests over which memory is watched")
    parser.add_argument("--most", type=int, default=48, help="largest number of new tokens")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = run(given.model, given.clients, given.seconds, given.requests, given.most)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(table(figures))
    print(json.dumps({name: value for name, value in figures.items() if name not in MODES}))


if __name__ == "__main__":
    main()
