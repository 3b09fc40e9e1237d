"""Keys, overload, cancellation, slow clients and the end of the process, against real servers."""

import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve.conftest import server
from unmask.serve.settings import ServeSettings, read_keys

LONG = {"text": "the [MASK:40]", "order": "top_prob", "steps": 40, "remask": "cap", "temperature": 1.0}
KEY = "a-key-of-the-test-1234"


def metric(url, name, headers=None):
    text = httpx.get(f"{url}/metrics", headers=headers).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"unmask_{name}(\{{.*\}})? ", line))


def until(condition, seconds=20):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition does not come true"
        time.sleep(0.02)


def test_a_key_is_required_where_one_is_set(trained, tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nanother-key-of-the-test\n")
    options = ("--keys", file, "--max-rows", 4, "--origin", "https://ours.example")
    with server(trained, *options, environment={"UNMASK_SERVE_KEYS": KEY}) as (process, url):
        body = {"text": "[MASK]"}
        for headers in ({}, {"Authorization": "Bearer wrong-key-of-the-test"}, {"Authorization": f"Basic {KEY}"}):
            reply = httpx.post(f"{url}/v1/fill", json=body, headers=headers)
            assert (
                reply.status_code == 401
                and reply.json()["error"]["type"] == "authentication_error"
                and KEY not in reply.text
            )
        for key in (KEY, "another-key-of-the-test"):
            assert (
                httpx.post(f"{url}/v1/fill", json=body, headers={"Authorization": f"Bearer {key}"}).status_code == 200
            )
        assert httpx.get(f"{url}/metrics").status_code == 401 and httpx.get(f"{url}/healthz").status_code == 200
        asked = {"Origin": "https://ours.example", "Access-Control-Request-Method": "POST"}
        assert (
            httpx.options(f"{url}/v1/fill", headers=asked).headers["access-control-allow-origin"]
            == "https://ours.example"
        )
        assert KEY not in "".join(process.said)


def test_keys_are_long_and_printable(tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASK_SERVE_KEYS", f"{KEY}, {KEY}-2")
    assert read_keys(None) == (KEY, f"{KEY}-2")
    monkeypatch.setenv("UNMASK_SERVE_KEYS", "short")
    with pytest.raises(ValueError, match="shorter than 16"):
        read_keys(None)
    (tmp_path / "empty").write_text("\n")
    monkeypatch.delenv("UNMASK_SERVE_KEYS")
    with pytest.raises(ValueError, match="holds no API key"):
        read_keys(tmp_path / "empty")


def test_an_address_that_others_reach_needs_a_key():
    for host in ("0.0.0.0", "::", "192.0.2.1", "some-host"):
        with pytest.raises(ValueError, match="no API key"):
            ServeSettings(host=host).check_address(False)
        ServeSettings(host=host, keys=(KEY,)).check_address(False)
        ServeSettings(host=host).check_address(True)
    for host in ("127.0.0.1", "::1", "localhost"):
        ServeSettings(host=host).check_address(False)
    with pytest.raises(ValueError, match="max_rows=0"):
        ServeSettings(max_rows=0)
    assert KEY not in repr(ServeSettings(keys=(KEY,)))


@pytest.fixture(scope="module")
def narrow(trained):
    """A server with one place and a queue of two."""
    with server(trained, "--max-rows", 1, "--max-queue", 2, "--max-steps", 50, "--max-tokens", 60, "--seconds", 30) as (
        _,
        url,
    ):
        yield url


def test_a_full_queue_says_when_to_come_again(narrow):
    with ThreadPoolExecutor(12) as pool:
        replies = list(
            pool.map(lambda n: httpx.post(f"{narrow}/v1/fill", json={**LONG, "seed": n}, timeout=60), range(12))
        )
    refused = [reply for reply in replies if reply.status_code == 429]
    assert refused and {reply.status_code for reply in replies} == {200, 429}
    assert all(int(reply.headers["retry-after"]) >= 1 and reply.json()["error"]["code"] == "busy" for reply in refused)
    assert sum(reply.status_code == 200 for reply in replies) >= 3
    until(lambda: metric(narrow, "requests_running") == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_leaves_the_batch(narrow, stream):
    before = metric(narrow, "requests_cancelled_total")
    with socket.create_connection(("127.0.0.1", int(narrow.rsplit(":", 1)[1]))) as connection:
        body = f'{{"text": "the [MASK:40]", "order": "top_prob", "stream": {str(stream).lower()}}}'.encode()
        head = f"POST /v1/fill HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(lambda: metric(narrow, "requests_running") == 1)
    until(lambda: metric(narrow, "requests_cancelled_total") == before + 1)
    until(lambda: metric(narrow, "requests_running") == 0)
    assert httpx.post(f"{narrow}/v1/fill", json={"text": "[MASK]"}).status_code == 200


def test_steps_and_tokens_have_limits(narrow):
    assert httpx.post(f"{narrow}/v1/fill", json={"text": "[MASK]", "steps": 51}).json()["error"]["param"] == "steps"
    assert (
        httpx.post(f"{narrow}/v1/fill", json={"text": "[MASK:61]"}).json()["error"]["code"] == "context_length_exceeded"
    )


def test_a_request_ends_with_its_time(trained):
    with server(trained, "--seconds", 0.05) as (_, url):
        reply = httpx.post(f"{url}/v1/fill", json=LONG)
        assert reply.status_code == 408 and reply.json()["error"]["code"] == "too_late"
        streamed = httpx.post(f"{url}/v1/fill", json={**LONG, "stream": True}).text
        assert "event: error" in streamed and "too_late" in streamed


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/fill HTTP/1.1\r\nhost: a\r\n", b"POST /v1/fill HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"],
)
def test_a_slow_client_is_disconnected_and_others_are_served(served, sent):
    with socket.create_connection(("127.0.0.1", int(served.rsplit(":", 1)[1]))) as connection:
        connection.sendall(sent)
        assert httpx.post(f"{served}/v1/fill", json={"text": "[MASK]"}).status_code == 200
        connection.settimeout(10)
        assert connection.recv(1 << 12).startswith(b"HTTP/1.1 408")
        assert connection.recv(1 << 12) == b"" or True


def test_a_client_that_stops_reading_is_disconnected_and_others_are_served(served):
    body = (
        b'{"text": "the [MASK:40]", "order": "top_prob", "remask": "cap", "steps": 1000, "top_k": 50, "stream": true}'
    )
    before = metric(served, "requests_cancelled_total")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(served.rsplit(":", 1)[1])))
        head = f"POST /v1/fill HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(lambda: metric(served, "requests_running") == 1)
        assert httpx.post(f"{served}/v1/fill", json={"text": "[MASK]"}).status_code == 200
        until(lambda: metric(served, "requests_cancelled_total") == before + 1, 60)
        until(lambda: metric(served, "requests_running") == 0)


def test_a_connection_serves_several_requests_and_each_has_its_own_time(served):
    with httpx.Client(base_url=served) as client:
        for _ in range(2):
            assert client.post("/v1/fill", json={"text": "[MASK]"}).status_code == 200
            time.sleep(1.2)
        assert client.get("/healthz").status_code == 200


def test_sigterm_finishes_what_runs(trained):
    with server(trained) as (process, url):
        replies = []
        threads = [
            threading.Thread(
                target=lambda n=n: replies.append(httpx.post(f"{url}/v1/fill", json={**LONG, "seed": n}, timeout=60))
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        until(lambda: metric(url, "requests_running") >= 2)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert [reply.status_code for reply in replies] == [200] * 4
        assert process.wait(20) in (0, -signal.SIGTERM)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/healthz")
