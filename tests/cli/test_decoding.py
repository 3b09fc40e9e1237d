"""Decoding options on the command line: each changes the result; files in, JSON lines out, in batches of any size."""

import json
import re

import pytest
import torch

from unmask.cli.decoding import Decoding
from unmask.cli.sample_text import watched_predict
from unmask.decode.families import CACHES
from unmask.decode.forwards import compiled
from unmask.decode.forwards.cached import KINDS, CachedForward
from unmask.decode.forwards.plain import PlainForward
from unmask.text.batching import left_padded

BASE = ("--prompt", "the cat", "--new-tokens", 16, "--samples", 4, "--json")
SURE = ("--order", "top_prob", "--order-temperature", 1.0)


class Stranger:
    """A tokenizer that no run was trained with."""

    fingerprint = "of another"
    mask_token_id, vocab_size = 1, 9
    pad_token_id = bos_token_id = eos_token_id = unk_token_id = None

    def __len__(self) -> int:
        return self.vocab_size


@pytest.fixture
def texts(unmask, trained):
    def run(*options: object) -> list[str]:
        answer = unmask("generate", "--model", trained, *BASE, *options)
        assert answer.code == 0, answer.err
        return [row["text"] for row in json.loads(answer.out)]

    return run


@pytest.mark.parametrize(
    ("base", "option"),
    [
        ((), ("--steps", 2)),
        ((), ("--order", "left_to_right")),
        ((), ("--order", "top_prob")),
        (("--steps", 16), ("--order", "ancestral")),
        (("--steps", 4, "--order", "top_prob"), ("--order-temperature", 3.0)),
        (SURE, ("--threshold", 0.05)),
        (SURE, ("--cumulative-error", 4.0)),
        (SURE, ("--factor", 4.0)),
        (SURE, ("--entropy-bound", 8.0)),
        (("--steps", 8), ("--order", "critic")),
        (("--steps", 8, "--order", "critic"), ("--critic", "shown")),
        (("--steps", 16, "--order", "critic", "--critic", "shown"), ("--remask", "mask_predict")),
        ((*SURE, "--threshold", 0.0), ("--non-adjacent",)),
        (("--steps", 5), ("--schedule", "quadratic")),
        (("--steps", 16), ("--block", 4)),
        (("--steps", 32), ("--remask", "cap")),
        (("--steps", 32, "--remask", "cap"), ("--remask-rate", 0.9)),
        (("--steps", 32, "--remask", "cap", "--remask-rate", 0.9), ("--remask-until", 0.5)),
        (("--steps", 32, "--remask", "cap", "--remask-rate", 0.9), ("--remask-hold", 0.5)),
        ((), ("--temperature", 3.0)),
        ((), ("--top-k", 1)),
        ((), ("--top-p", 0.1)),
        ((), ("--min-p", 0.9)),
        ((), ("--repetition-penalty", 3.0)),
        ((), ("--regex", "[a-z ]+")),
        ((), ("--guidance", 5.0)),
        (("--block", 8, "--temperature", 2.0), ("--cache", "dual")),
        (("--block", 8, "--temperature", 2.0), ("--cache", "delayed")),
        (("--block", 8, "--temperature", 2.0, "--cache", "dual"), ("--cache-refresh", 2)),
        (("--temperature", 3.0), ("--eos", "free")),
        (("--temperature", 3.0, "--eos", "free"), ("--eos", "late")),
        ((), ("--seed", 1)),
    ],
)
def test_every_option_changes_the_outcome(texts, base, option):
    assert texts(*base, *option) != texts(*base)


def test_every_cache_is_reached_by_its_name(unmask, trained, monkeypatch):
    asked = []
    monkeypatch.setattr(CachedForward, "start", lambda rule, *given: asked.append(rule.kind) or PlainForward())
    for name in KINDS:
        assert unmask("generate", "--model", trained, *BASE, "--steps", 1, "--cache", name).code == 0
    assert asked == list(KINDS)
    answer = unmask("generate", "--model", trained, *BASE, "--cache", "all")
    assert answer.code != 0 and all(name in answer.err for name in CACHES)


def test_compiled_steps_are_reached_and_change_nothing(unmask, trained, monkeypatch):
    asked = []
    encode = lambda *given: asked.append(1) or compiled.encode(*given)  # noqa: E731
    monkeypatch.setattr(compiled, "_programs", lambda device_type: (encode, compiled.project))
    for command in (("generate", *BASE, "--steps", 4), ("fill", "the cat [MASK] the [MASK].", "--json")):
        plain, found = (unmask(*command, "--model", trained, *options) for options in ((), ("--compile",)))
        assert found.code == 0, found.err
        texts = [[row["text"] for row in json.loads(answer.out)] for answer in (plain, found)]
        assert texts[0] == texts[1] and asked
        asked.clear()
    answer = unmask("generate", "--model", trained, *BASE, "--compile", "--block", 4, "--cache", "dual")
    assert answer.code != 0 and "not both" in " ".join(answer.err.split())


def test_rows_are_moved_to_the_device_of_the_model():
    class Elsewhere:
        model, tokenizer, observers = torch.nn.Linear(1, 1, device="meta"), None, ()

        def predict(self, batch):
            return {name: part.device.type for name, part in batch.items()}

    sent = watched_predict(Elsewhere(), left_padded([[5, 6], [7]], 0), watch=False, page=None, title="")
    assert set(sent.values()) == {"meta"}


def test_the_block_cache_changes_no_token_and_uses_the_blocks_of_the_network(unmask, trained, block_causal):
    def texts(*options: object, command: tuple = ("generate", *BASE)) -> list[str]:
        answer = unmask(*command, "--model", block_causal, "--order", "top_prob", *options)
        assert answer.code == 0, answer.err
        return [row["text"] for row in json.loads(answer.out)]

    cached = texts("--cache", "block")
    assert cached == texts("--block", 4) == texts("--block", 4, "--cache", "block") != texts()
    filling = ("fill", "the cat [MASK] [MASK] [MASK] [MASK] the moon", "a [MASK] sees", "--json")
    assert texts("--cache", "block", command=filling) == texts("--block", 4, command=filling)
    for options in (("--cache", "block"), ("--cache", "block", "--block", 4)):
        answer = unmask("generate", "--model", trained, *BASE, *options)
        assert answer.code != 0 and re.search("prefix('|,) (or|dual)", " ".join(answer.err.split())), answer.err
    answer = unmask("generate", "--model", block_causal, *BASE, "--cache", "block", "--block", 6)
    assert answer.code != 0 and "Give block_length=4" in " ".join(answer.err.split())


def test_a_critic_is_the_model_itself_or_another_run(unmask, trained, block_causal):
    critic = ("--order", "critic", "--critic", "shown")

    def rows(*options: object) -> list[dict]:
        answer = unmask("generate", "--model", trained, *BASE, *critic, *options)
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    itself, other = rows(), rows("--critic-model", block_causal)
    texts = [[row["text"] for row in found] for found in (itself, rows("--critic-model", trained), other)]
    assert texts[0] == texts[1] != texts[2]
    assert [r["steps_taken"] for r in itself] == [2 * 16 - 1] * 4, "each step but the last asks twice"
    with pytest.raises(ValueError, match="another tokenizer"):
        Decoding(order="critic", critic_model=trained).rules(None, Stranger(), 4)
    answer = unmask("generate", "--model", trained, *BASE, "--critic", "shown")
    assert answer.code != 0 and "order='critic'" in answer.err


def test_first_hitting_takes_one_step_for_every_blank(unmask, trained):
    rows = json.loads(unmask("generate", "--model", trained, *BASE, "--order", "first_hitting").out)
    assert [row["steps_taken"] for row in rows] == [16] * 4


def test_required_words_appear_and_forbidden_ones_do_not(texts):
    assert all("stone" in text for text in texts("--require", "stone"))
    assert any(" the" in text for text in texts())
    assert not any(" the" in text.removeprefix("the cat") for text in texts("--forbid", "the"))


def test_a_file_of_prompts_gives_a_line_each_whatever_the_batches(unmask, trained, tmp_path):
    prompts = ["the cat", "my aunt likes", "a dog sees the moon. the"]
    (tmp_path / "prompts.txt").write_text("\n\n".join(prompts))
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))

    def rows(name: str, size: int) -> list[tuple[str, str]]:
        answer = unmask(
            "generate",
            "--model",
            trained,
            "--new-tokens",
            8,
            "--input",
            tmp_path / name,
            "--batch-size",
            size,
            "--jsonl",
        )
        assert answer.code == 0, answer.err
        return [(row["prompt"], row["text"]) for row in map(json.loads, answer.out.splitlines())]

    together = rows("prompts.txt", 64)
    assert [prompt for prompt, _ in together] == prompts
    assert together == rows("prompts.txt", 1) == rows("prompts.jsonl", 2)


def test_fill_accepts_decoding_options_and_files(unmask, trained, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat [MASK] the [MASK].\na dog [MASK] my aunt [MASK] a stone.\n")
    options = ("--model", trained, "--input", tmp_path / "texts.txt", "--jsonl", "--top", 2)
    plain = unmask("fill", *options)
    assert plain.code == 0, plain.err
    rows = [json.loads(line) for line in plain.out.splitlines()]
    assert [len(row["blanks"]) for row in rows] == [2, 2] and [row["steps"] for row in rows] == [2, 2]
    blocks = [json.loads(line) for line in unmask("fill", *options, "--block", 2).out.splitlines()]
    assert [len(row["blanks"]) for row in blocks] == [2, 2], "alternatives of every block"
    assert re.search(r"\b4 tokens · 2 forward passes · [\d.]+ s · [\d,]+ tokens/s", plain.err)
    at_once = [json.loads(line) for line in unmask("fill", *options, "--threshold", 0.0).out.splitlines()]
    assert [row["steps"] for row in at_once] == [1, 1]


def test_a_pattern_is_matched_at_every_length_that_allows_it(unmask, trained):
    texts = ("the cat [MASK] the moon.", "a dog [MASK] a stone.")
    for space in ("", " "):  # that the text has, and the pattern need not repeat
        pattern = f"{space}(saw|likes the|[0-9]{{3}})"
        answer = unmask("fill", *texts, "--model", trained, "--json", "--longest", 8, "--regex", pattern)
        assert answer.code == 0, answer.err
        for row, given in zip(json.loads(answer.out), texts, strict=True):
            before, after = given.split("[MASK]")
            assert re.fullmatch(re.escape(before.removesuffix(space)) + pattern + re.escape(after), row["text"]), row
            assert all(re.fullmatch(pattern.strip(), filling["token"].strip()) for filling in row["blanks"][0])
    for options, hint in (
        (("--longest", 1, "--regex", "[0-9]{9}"), "No filling of up to 1 token"),
        (("--regex", "(a"), "cannot be read"),
    ):
        answer = unmask("fill", *texts, "--model", trained, *options)
        assert answer.code != 0 and hint in " ".join(answer.err.split())


def test_candidates_are_allowed_tokens(unmask, trained):
    rows = json.loads(unmask("fill", "the cat [MASK] the moon.", "--model", trained, "--json", "--top", 1_000_000).out)
    offered = rows[0]["blanks"][0]
    assert len(offered) > 100 and not any(a["token"].startswith("[") and a["token"].endswith("]") for a in offered)
