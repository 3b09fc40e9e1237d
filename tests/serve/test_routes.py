"""The service over real HTTP: answers are those of the library, and errors teach."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

TEXTS = ["the [MASK] sees the [MASK].", "the [MASK:3] sees", "[MASK]", "the cat [MASK:1-3] the dog."]


def events(response):
    """The events of a stream: name and data."""
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("options", [{}, {"order": "random", "temperature": 1.2, "seed": 7}])
def test_fill_answers_as_the_library_does(served, model, text, options):
    reply = httpx.post(f"{served}/v1/fill", json={"text": text, **options}).json()
    filling = model.fill(text, **options)
    assert reply["text"] == filling.text and reply["seed"] == options.get("seed", 0)
    assert len(reply["fills"]) == text.count("[MASK") and all(0 < fill["probability"] <= 1 for fill in reply["fills"])
    assert [token["id"] for token in reply["tokens"] if not token["given"]] == [
        i for f in reply["fills"] for i in f["ids"]
    ]


def test_generate_answers_as_the_library_does(served, model):
    body = {"text": "the cat", "length": 9, "seed": 3, "steps": 5, "top_p": 0.9}
    reply = httpx.post(f"{served}/v1/generate", json=body).json()
    assert reply["text"] == model.generate("the cat", new_tokens=9, seed=3, steps=5, top_p=0.9).text
    assert reply["passes"] == 5 and reply["model"] == "small"


def test_ids_are_pinned_and_the_rest_is_decoded_again(served):
    first = httpx.post(f"{served}/v1/fill", json={"text": "the [MASK:4] dog.", "seed": 1}).json()
    ids = [token["id"] for token in first["tokens"]]
    masked = [None if n in (1, 2) else id for n, id in enumerate(ids)]
    again = httpx.post(f"{served}/v1/fill", json={"ids": masked}).json()
    assert [token["given"] for token in again["tokens"]] == [id is not None for id in masked]
    assert [token["id"] for n, token in enumerate(again["tokens"]) if masked[n] is not None] == [
        i for i in masked if i is not None
    ]
    assert len(again["fills"]) == 1 and len(again["fills"][0]["ids"]) == 2


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_shows_every_step_and_ends_as_the_answer(served, text):
    body = {"text": text, "order": "entropy", "top_k": 3}
    whole = httpx.post(f"{served}/v1/fill", json=body).json()
    stream = events(httpx.post(f"{served}/v1/fill", json={**body, "stream": True}))
    (start, first), *steps, (done, last) = stream
    assert (start, done) == ("start", "done") and all(name == "step" for name, _ in steps)
    assert first["mask_token"] == "[MASK]" and [t["given"] for t in first["tokens"]] == [
        t["given"] for t in last["tokens"]
    ]
    assert all((token["text"] is None) != token["given"] for token in first["tokens"])
    row = [token["id"] for token in first["tokens"]]
    for number, (_, step) in enumerate(steps, start=1):
        assert step["passes"] == number and step["remasked"] == []
        masked = {n for n, token in enumerate(first["tokens"]) if row[n] == token["id"] and not token["given"]}
        assert {a["position"] for a in step["alternatives"]} == masked and all(
            1 <= len(a["top"]) <= 3 for a in step["alternatives"]
        )
        for token in step["unmasked"]:
            row[token["position"]] = token["id"]
    assert row == [token["id"] for token in last["tokens"]]
    assert last["text"] == whole["text"] and last["fills"] == whole["fills"] and last["passes"] == whole["passes"]


def test_remasked_positions_are_streamed(served):
    body = {"text": "the [MASK:12]", "remask": "cap", "temperature": 1.0, "steps": 30, "stream": True, "top_k": 0}
    stream = events(httpx.post(f"{served}/v1/fill", json=body))
    assert any(step["remasked"] for name, step in stream if name == "step")
    assert all(step["alternatives"] == [] for name, step in stream if name == "step")


def test_many_at_once_have_the_answers_they_have_alone(served):
    """Mixed texts, orders, steps, seeds and patterns; every answer equals the one of the request alone, to the token."""
    generator, bodies = random.Random(0), []
    for _ in range(60):
        body = {
            "text": generator.choice([*TEXTS, "the [MASK:9] dog", "[MASK:2] sees [MASK:5]."]),
            "seed": generator.randrange(100),
        }
        body |= {
            "order": generator.choice(["random", "top_prob", "entropy", "left_to_right"]),
            "temperature": generator.choice([0, 1.0]),
        }
        body |= generator.choice(
            [{}, {"steps": 3}, {"block_length": 3}, {"min_p": 0.1}, {"repetition_penalty": 1.3}, {"regex": "[a-z ]*"}]
        )
        if "regex" in body:
            body["text"] = "the [MASK:4]."
        bodies.append(body)
    with httpx.Client(base_url=served, timeout=60, limits=httpx.Limits(max_connections=32)) as client:
        alone = [client.post("/v1/fill", json=body).json() for body in bodies]
        with ThreadPoolExecutor(32) as pool:
            together = list(pool.map(lambda body: client.post("/v1/fill", json=body).json(), bodies))
    for one, other in zip(alone, together, strict=True):
        assert "tokens" in one, one
        assert (one["tokens"], one["fills"], one["passes"]) == (other["tokens"], other["fills"], other["passes"])


def test_score_and_embed_answer_as_the_library_does(served, model):
    texts = ["the cat sees the dog.", "dog the"]
    scores = httpx.post(f"{served}/v1/score", json={"text": texts}).json()["scores"]
    assert [s["nats"] for s in scores] == pytest.approx([s.nats for s in model.score(texts)], rel=1e-5)
    bound = httpx.post(f"{served}/v1/score", json={"text": texts[0], "bound": True, "samples": 4, "seed": 2}).json()[
        "scores"
    ]
    assert bound[0]["nats"] == pytest.approx(model.score(texts[0], bound=True, samples=4, seed=2).nats, rel=1e-5)
    vectors = httpx.post(f"{served}/v1/embed", json={"text": texts}).json()["embeddings"]
    assert vectors[1] == pytest.approx(model.embed(texts)[1].tolist(), abs=1e-5)


def test_models_health_metrics_and_page(served):
    (card,) = httpx.get(f"{served}/v1/models").json()["data"]
    assert (
        card["id"] == "small" and card["unmask"]["mask_token"] == "[MASK]" and card["unmask"]["same_in_company"] is True
    )
    assert "top_prob" in card["unmask"]["orders"] and card["unmask"]["max_length"] == 64
    assert (
        httpx.get(f"{served}/healthz").json() == {"status": "ok"} and httpx.get(f"{served}/readyz").status_code == 200
    )
    httpx.post(f"{served}/v1/fill", json={"text": "[MASK]"})
    metrics = httpx.get(f"{served}/metrics").text
    for name in (
        "requests_waiting",
        "requests_running",
        "batch_rows_bucket",
        "tokens_placed_total",
        "forward_passes_total",
        "request_seconds_sum",
    ):
        assert f"unmask_{name}" in metrics
    page = httpx.get(served)
    assert page.headers["content-type"].startswith("text/html") and "https://" not in page.text
    assert (
        "access-control-allow-origin"
        not in httpx.get(f"{served}/healthz", headers={"Origin": "http://elsewhere"}).headers
    )


BAD = [
    ({"text": 3}, 422, "text"),
    ({"text": "[MASK]", "nonsense": 1}, 422, "nonsense"),
    ({"text": "[MASK]", "seed": -1}, 422, "seed"),
    ({"text": "[MASK]", "temperature": "NaN"}, 422, "temperature"),
    ({"text": "[MASK]", "order": "best"}, 400, None),
    ({"text": "[MASK]", "regex": "("}, 400, None),
    ({"text": "[MASK]", "regex": "(a|b)*a(a|b){12}"}, 400, None),
    ({"text": "[MASK]", "regex": "((a{0,200}){0,200}){0,200}"}, 400, None),
    ({"text": "[MASK:0]"}, 400, None),
    ({"text": "[MASK:5-2]"}, 400, None),
    ({"text": "[MASK:999999]"}, 400, "text"),
    ({"text": "[MASK:1-60]" * 9}, 400, "text"),
    ({"text": "no blank"}, 400, "text"),
    ({"ids": [5, 10**6]}, 400, None),
    ({"ids": [None] * 100}, 400, "ids"),
    ({}, 400, "text"),
    ({"text": "a [MASK]", "ids": [None]}, 400, "ids"),
    ({"text": "a [MASK]", "order": "random", "threshold": 0.5}, 400, None),
]


@pytest.mark.parametrize("body,status,param", BAD)
def test_a_wrong_value_is_named_and_nothing_else_fails(served, body, status, param):
    reply = httpx.post(f"{served}/v1/fill", json=body)
    error = reply.json()["error"]
    assert reply.status_code == status and error["param"] == param and error["type"] == "invalid_request_error"
    assert "Traceback" not in reply.text and "/" not in error["message"].replace("/v1/", "")
    assert httpx.post(f"{served}/v1/fill", json={"text": "[MASK]"}).status_code == 200


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"\xff\xfe", b'{"text": "\xff"}', b'{"text": "\\ud800 [MASK]"}', b"[" * 9000, b"null", b"", b"1e999"],
)
def test_a_body_that_is_no_request_is_refused(served, data):
    reply = httpx.post(f"{served}/v1/fill", content=data, headers={"content-type": "application/json"})
    assert reply.status_code in (400, 422) and reply.json()["error"]["message"]


def test_a_large_body_is_refused_before_it_is_read(served):
    reply = httpx.post(f"{served}/v1/fill", content=b"x" * 30_000)
    assert reply.status_code == 413 and reply.json()["error"]["code"] == "too_large"
    assert httpx.post(f"{served}/v1/fill", content=iter([b"x" * 15_000, b"x" * 15_000])).status_code == 413
