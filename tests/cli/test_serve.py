"""``unmask serve``: every option reaches the settings, and an open address without a key is refused."""

import pytest

pytest.importorskip("fastapi")


def test_every_option_is_a_setting(unmask, trained, tmp_path, monkeypatch):
    (tmp_path / "keys").write_text("a-key-of-the-test-1234\n")
    seen = {}
    monkeypatch.setattr(
        "unmask.serve.server.run_server", lambda app, settings, ready: seen.update(app=app, settings=settings)
    )
    answer = unmask(
        "serve", trained, "--host", "::1", "--port", 9, "--name", "n", "--keys", tmp_path / "keys", "--open", "--max-rows", 2, "--max-queue", 3,
        "--max-tokens", 4, "--max-steps", 5, "--seconds", 6, "--max-body", 7, "--read-seconds", 8, "--origin", "https://a.example",
        "--batching", "static",
        "--checkpoint", "best", "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    s = seen["settings"]
    assert (s.host, s.port, s.max_rows, s.max_queue, s.max_tokens, s.max_steps) == ("::1", 9, 2, 3, 4, 5)
    assert (s.seconds, s.max_body, s.read_seconds, s.origins, s.batching) == (6, 7, 8, ("https://a.example",), "static")
    assert s.keys == ("a-key-of-the-test-1234",) and seen["app"].state.service.name == "n"


def test_an_open_address_without_a_key_is_refused(unmask, trained):
    answer = unmask("serve", trained, "--host", "0.0.0.0")
    assert answer.code == 1 and "--open" in answer.err
