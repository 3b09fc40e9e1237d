"""The service as a Ray Serve deployment with two local replicas: both give the answers of the plain server."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.blocks import ROOT
from tests.serve.test_routes import events

BODIES = [
    ("/v1/fill", {"text": "the [MASK:3] sees [MASK].", "seed": 1, "temperature": 1.0}),
    ("/v1/fill", {"text": "the cat [MASK:1-3] the dog."}),
    ("/v1/generate", {"text": "the cat", "length": 9, "seed": 3, "steps": 5}),
    ("/v1/completions", {"prompt": "the ", "suffix": " dog.", "max_tokens": 4, "seed": 2}),
]
TIMES = 10


@contextmanager
def deployment(model, replicas):
    """Start the example on a free port; yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A token of its own keeps Ray from writing one to the home of the user.
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, ROOT / "examples" / "ray_serve.py", model, "--replicas", replicas, "--port", port]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **own}
    ) as process:
        lines: list[str] = []
        late = threading.Timer(300, process.kill)
        late.start()
        try:
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r"Serving .* at (http://\S+) ", line):
                    break
            else:
                raise AssertionError("".join(lines))
            threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True).start()
            yield found[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, "".join(lines)
        finally:
            late.cancel()
            if process.poll() is None:
                process.kill()


def content(reply):
    """What an answer says, without its name and time."""
    answer = reply.json()
    return {
        name: value for name, value in answer.items() if name not in ("id", "model", "seconds", "created")
    }, reply.status_code


@pytest.mark.slow
def test_two_replicas_give_the_answers_of_the_plain_server(served, trained):
    """Every request goes to both replicas, in company and streamed."""
    pytest.importorskip("ray.serve")
    expected = [content(httpx.post(f"{served}{path}", json=body, timeout=60)) for path, body in BODIES]
    assert {status for _, status in expected} == {200}
    with deployment(trained, 2) as url, httpx.Client(base_url=url, timeout=120) as client:

        def ask(number):
            path, body = BODIES[number % len(BODIES)]
            return content(client.post(path, json=body))

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(TIMES * len(BODIES))))
        assert answers == expected * TIMES

        path, body = BODIES[0]
        stream = events(client.post(path, json={**body, "stream": True}))
        assert [name for name, _ in stream] == ["start", *["step"] * stream[-1][1]["passes"], "done"]
        assert stream[-1][1]["text"] == expected[0][0]["text"]

        refused = client.post("/v1/fill", json={"text": "no blank"})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "text"

        shares = {}  # each replica has metrics of its own, and the next request goes to either
        for _ in range(40):
            page = client.get("/metrics").text
            begun = re.search(r'unmask_requests_created\{route="/v1/fill",status="200"\} (\S+)', page)[1]
            counts = re.findall(r'unmask_requests_total\{route="/v1/[a-z]+",status="\d+"\} (\S+)', page)
            shares[begun] = sum(map(float, counts))
        assert len(shares) == 2 and min(shares.values()) >= 5 and sum(shares.values()) == TIMES * len(BODIES) + 2
