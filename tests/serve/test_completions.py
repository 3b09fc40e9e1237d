"""OpenAI's own client against the service."""

import openai
import pytest


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served}/v1", api_key="none", max_retries=0)


def test_a_completion_continues_the_prompt(client, model):
    reply = client.completions.create(model="small", prompt="the cat", max_tokens=6, seed=4, temperature=0)
    options = {"order": "top_prob", "temperature": 0.0, "block_length": 8}
    assert "the cat" + reply.choices[0].text == model.generate("the cat", new_tokens=6, seed=4, **options).text
    assert reply.usage.completion_tokens == 6 and reply.choices[0].finish_reason == "length"


def test_a_suffix_makes_it_infilling(client):
    reply = client.completions.create(
        model="small", prompt="the ", suffix=" sees the dog.", max_tokens=1, seed=0, temperature=0, echo=True
    )
    assert reply.choices[0].text.startswith("the ")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"suffix": " dog."},
        {"extra_body": {"order": "random"}},
        {"extra_body": {"remask": "cap", "order": "random"}},
    ],
)
def test_a_stream_grows_to_the_same_text(client, options):
    common = {"model": "small", "prompt": "the cat", "max_tokens": 12, "seed": 1, **options}
    whole = client.completions.create(**common).choices[0].text
    chunks = list(client.completions.create(**common, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "length" and (len(chunks) > 1 or "extra_body" in options)


def test_choices_stops_and_prompts_of_ids(client, model):
    reply = client.completions.create(model="small", prompt=["the cat", "a"], n=2, max_tokens=4, seed=0)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    ids = model.tokenizer.encode("the cat")
    same = client.completions.create(model="small", prompt=ids, max_tokens=4, seed=0).choices[0].text
    assert same == reply.choices[0].text
    stop = same[1:3]
    stopped = client.completions.create(model="small", prompt=ids, max_tokens=4, seed=0, stop=[stop]).choices[0]
    assert stopped.text == same[: same.index(stop)] and stopped.finish_reason == "stop"
    pieces = client.completions.create(model="small", prompt=ids, max_tokens=4, seed=0, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in pieces) == stopped.text


def test_errors_are_those_of_the_client_library(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="small", prompt="the", max_tokens=5000)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.UnprocessableEntityError):
        client.completions.create(model="small", prompt="the", max_tokens=0)
    assert [model.id for model in client.models.list()] == ["small"]
