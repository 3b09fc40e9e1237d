"""The service under load: closed-loop clients, one process for each mode, one model.

    single       one client: one request at a time
    static       all clients; a batch runs to its last row, finished rows are still computed, and all are answered at its end
    dropping     all clients; nothing joins a batch, but its finished rows leave and are answered at once
    continuous   all clients, continuous batching

python -m benchmarks.serve --model runs/demo --clients 64 --seconds 60 [--rounds 2] [--requests 10000] [--json FILE] [--readme README.md] [--page docs/performance.md]

Each mode has a server process of its own on 127.0.0.1; they are measured in turn, in several rounds, so that other load of the machine meets all.
A fixed batch begins when it is full, or when no request came for 50 ms. The clients draw the same requests: mixed lengths, steps, orders and
seeds. A round ends when all of its requests are answered. ``--requests`` then sends that many more, of 16 new tokens at most, to the continuous server, and
reports its resident memory after every tenth of them. Figures are written to benchmarks/results/, and with ``--readme`` and ``--page`` into these files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.readme import SERVICE, refresh
from unmask.measure.machine import describe_machine
from unmask.measure.report_table import Row, markdown

SHOWN = {"single": "one request at a time", "dropping": "static, finished rows dropped"}
MODES = {mode: "continuous" if mode == "single" else mode for mode in ("single", "static", "dropping", "continuous")}


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


@dataclass
class Seen:
    """What the clients of a mode saw."""

    times: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: int = 0
    seconds: float = 0.0

    def figures(self, clients: int) -> dict[str, Any]:
        """Return the throughput and latencies."""
        times, spent = sorted(self.times), max(self.seconds, 1e-9)
        return {
            "clients": clients,
            "requests": len(times),
            "errors": self.errors,
            "requests_per_second": round(len(times) / spent, 2),
            "tokens_per_second": round(self.tokens / spent, 1),
            "p50_seconds": round(times[len(times) // 2], 3) if times else None,
            "p99_seconds": round(times[min(len(times) - 1, int(len(times) * 0.99))], 3) if times else None,
        }


async def load(url: str, draws: list[Any], seconds: float, requests: int | None, seen: Seen) -> None:
    """Send the requests of each client for some time, or until ``requests`` are answered."""
    import httpx

    sent, begun = 0, time.monotonic()
    limits = httpx.Limits(max_connections=len(draws), max_keepalive_connections=len(draws))
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as session:

        async def client(draw: Any) -> None:
            nonlocal sent
            while sent < requests if requests is not None else time.monotonic() - begun < seconds:
                sent, body, start = sent + 1, next(draw), time.monotonic()
                reply = await session.post("/v1/generate", json=body)
                if reply.status_code != 200:
                    seen.errors += 1
                    continue
                seen.times.append(time.monotonic() - start)
                seen.tokens += body["length"]

        await asyncio.gather(*map(client, draws))
    seen.seconds += time.monotonic() - begun


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(model: str, clients: int, seconds: float, rounds: int, requests: int, most: int) -> dict[str, Any]:
    """Measure all modes, in turn."""
    figures: dict[str, Any] = {"seconds": seconds, "rounds": rounds}
    limits = ("--max-rows", str(clients), "--max-queue", str(4 * clients))
    with ExitStack() as stack:
        servers = {
            mode: stack.enter_context(server(model, "--batching", batching, *limits))
            for mode, batching in MODES.items()
        }
        count = {mode: 1 if mode == "single" else clients for mode in MODES}
        draws = {mode: [bodies(number, most) for number in range(count[mode])] for mode in MODES}
        seen = {mode: Seen() for mode in MODES}
        for mode, (url, _) in servers.items():
            asyncio.run(load(url, [bodies(1 << 20, most)] * min(count[mode], 4), min(seconds, 3), None, Seen()))  # warm
        for number in range(rounds):
            for mode in list(MODES)[:: -1 if number % 2 else 1]:
                asyncio.run(load(servers[mode][0], draws[mode], seconds / rounds, None, seen[mode]))
        figures |= {mode: seen[mode].figures(count[mode]) for mode in MODES}
        if requests:
            figures["memory"] = memory(*servers["continuous"], clients, requests, min(most, 16))
    base = figures["continuous"]["tokens_per_second"]
    for mode in ("single", "static", "dropping"):
        figures[f"continuous_over_{mode}"] = round(base / max(figures[mode]["tokens_per_second"], 1e-9), 2)
    return figures


def memory(url: str, pid: int, clients: int, requests: int, most: int) -> dict[str, Any]:
    """Send requests of at most ``most`` new tokens; return the resident memory of the server before and after every tenth, in MiB."""
    draws, seen, sizes = [bodies(number, most) for number in range(clients)], Seen(), [resident(pid)]
    for _ in range(10):
        asyncio.run(load(url, draws, 0, requests // 10, seen))
        sizes.append(resident(pid))
    return {
        "requests": len(seen.times),
        "errors": seen.errors,
        "seconds": round(seen.seconds),
        "resident_mib": [round(size / 2**20, 1) for size in sizes],
    }


def rows_of(figures: dict[str, Any]) -> list[Row]:
    """Return the figures with a target: throughput beside two modes, and growth of memory."""
    clients = f"service, {figures['continuous']['clients']} clients: tokens/s"
    rows = [
        Row.single(clients, "one request at a time", figures["continuous_over_single"], 3),
        Row.single(clients, "static batches", figures["continuous_over_static"], 1.5),
    ]
    if found := figures.get("memory"):
        sizes = found["resident_mib"]
        name = f"service: memory after {found['requests']:,} requests"
        rows.append(Row.single(name, "after a tenth of them", sizes[10] / max(sizes[1], 1e-9), 1.05, at_most=True))
    return rows


def sentence(figures: dict[str, Any]) -> str:
    """Return the figures as the README has them."""
    f, found = figures["continuous"], figures.get("memory")
    text = (
        f"Service, {f['clients']} clients for {figures['seconds']:g} s: {f['tokens_per_second']:,.0f} tokens/s, "
        f"{figures['continuous_over_single']:.1f}× one request at a time (target: 3×), {figures['continuous_over_static']:.1f}× static batches "
        f"(1.5×); p50 {f['p50_seconds']:.1f} s, p99 {f['p99_seconds']:.1f} s, {f['errors']} errors"
    )
    if found:
        sizes = found["resident_mib"]
        text += f"; memory {sizes[1]:.0f} MiB after {found['requests'] // 10:,} requests, {sizes[10]:.0f} after {found['requests']:,}"
    return f"{text} (`python -m benchmarks.serve`, [details](docs/performance.md#the-service))."


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| batching | clients | requests/s | tokens/s | p50 s | p99 s | errors |", "|---|---|---|---|---|---|---|"]
    for mode in MODES:
        f = figures[mode]
        cells = (
            SHOWN.get(mode, mode),
            f["clients"],
            f["requests_per_second"],
            f["tokens_per_second"],
            f["p50_seconds"],
            f["p99_seconds"],
            f["errors"],
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if found := figures.get("memory"):
        tenth, half, end = (f"{found['resident_mib'][n]:.0f}" for n in (1, 5, 10))
        lines += [
            "",
            "| requests | MiB after a tenth | after half | after all | errors |",
            "|---|---|---|---|---|",
            f"| {found['requests']:,} | {tenth} | {half} | {end} | {found['errors']} |",
        ]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="runs/demo")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2, help="parts of the time; every mode has its turn in each")
    parser.add_argument("--requests", type=int, default=0, help="further requests over which memory is watched")
    parser.add_argument("--most", type=int, default=48, help="largest number of new tokens")
    parser.add_argument("--json", type=Path, help="write all figures here; by default under benchmarks/results/")
    parser.add_argument(
        "--readme", type=Path, help="put the figures into this file, as one sentence between its markers"
    )
    parser.add_argument("--page", type=Path, help="put the tables into this file likewise")
    given = parser.parse_args()
    figures = run(given.model, given.clients, given.seconds, given.rounds, given.requests, given.most)
    rows = rows_of(figures)
    path = given.json or harness.results_file(describe_machine(), "serve")
    harness.write(path, "serve", figures | {"rows": [row.as_dict() for row in rows]})
    print(table(figures))
    harness.show_rows("beside targets", rows)
    print(f"figures in {path}")
    if given.page is not None:
        refresh(given.page, f"{table(figures)}\n\n{markdown(rows)}", SERVICE)
    if given.readme is not None:
        refresh(given.readme, sentence(figures), SERVICE)


if __name__ == "__main__":
    main()
