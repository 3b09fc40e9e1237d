"""Continuous batching: decodes share forward passes, and each has the tokens that it has alone."""

import random
from dataclasses import replace

import pytest
import torch

from tests.decode.networks import sure
from unmask import Canvas, RotaryTransformerMLMModel, SpecialIds, fill_canvas, make_rules
from unmask.decode.continuous import ContinuousBatch, company_changes_nothing
from unmask.decode.forwards.cached import CachedForward
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import decode_steps
from unmask.decode.observers.trace import Trace
from unmask.decode.reach import reached
from unmask.decode.shared_logits import shared_logits
from unmask.nn.linear import prepack_weights

VOCAB = 60
SPECIAL = SpecialIds(mask=0, pad=1, eos=2, bos=3, vocab_size=VOCAB)
SIZES = (VOCAB, 32, 2, 2)
FIELDS = {"padding_idx": 1, "mask_idx": 0, "max_length": 96}


class Dense(torch.nn.Module):
    """A network that computes all logits, padding included, as many of other libraries do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
        return self.inner(x_t, attention_mask, positions)


def float32_network():
    torch.manual_seed(1)
    network = RotaryTransformerMLMModel(*SIZES, **FIELDS).eval()
    network.head.projection.weight.data.mul_(8)
    return network


def options(generator: random.Random, network) -> dict:
    """One of many ways to decode; steps, temperature and constraints of its own."""
    order = generator.choice(["random", "left_to_right", "top_prob", "entropy", "drawn_prob", "ancestral", "critic"])
    chosen: dict = {"order": order, "temperature": generator.choice([0.0, 0.7, 1.3]), "special": SPECIAL}
    if order == "critic":
        chosen["critic_model"] = network
    more = [{}, {"top_k": 5}, {"top_p": 0.8}, {"repetition_penalty": 1.2}, {"required_ids": [7]}, {"guidance": 1.0},
            {"block_length": 4}, {"block_length": 4, "cache": "dual"}, {"eos_last": True}, {"stop_at_eos": True}]  # fmt: skip
    if order in ("top_prob", "entropy"):
        more += [{"threshold": 0.6}, {"remask": "cap"}, {"remask": "mask_predict"}, {"non_adjacent": True}]
    return chosen | generator.choice(more)


def job(generator: random.Random, network):
    """Canvas, rules and seed of a request: 1 to 40 tokens, of which one or all are masked, padded or not."""
    length, rows = generator.randint(1, 24), generator.choice([1, 1, 1, 3])
    ids = torch.tensor([[generator.randrange(4, VOCAB) for _ in range(length)] for _ in range(rows)])
    ids[torch.tensor([[generator.random() < 0.6 for _ in range(length)] for _ in range(rows)])] = 0
    ids[:, generator.randrange(length)] = 0
    left = generator.choice([0, 0, 3])
    ids = torch.nn.functional.pad(ids, (left, 0), value=1)
    canvas = Canvas.infill(ids, SPECIAL, torch.arange(length + left).expand(ids.shape) >= left)
    chosen = options(generator, network)
    rules = make_rules(40 if "block_length" in chosen else generator.choice([1, 4, 40]), **chosen)
    return canvas, rules, generator.randrange(1000)


def decode(network, jobs, arrivals, share=False, **budgets):
    """Decode jobs in one batch, job ``n`` joining at tick ``arrivals[n]``."""
    members, tick = {}, 0
    with ContinuousBatch(network, vocab_size=VOCAB, **budgets) as batch:
        while len(members) < len(jobs) or batch.members:
            for number, (canvas, rules, seed) in enumerate(jobs):
                if arrivals[number] == tick:
                    members[number] = batch.join(decode_steps(canvas, rules, SPECIAL, seed, share=share))
            batch.advance()
            tick += 1
    for member in members.values():
        if member.error is not None:
            raise member.error
    return [members[number].result for number in range(len(jobs))]


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_decode_in_company_has_the_tokens_it_has_alone(seed, share):
    """Lengths, orders, steps, temperatures, seeds, constraints and arrivals are mixed at random."""
    network, generator = sure(2, *SIZES, **FIELDS).eval(), random.Random(seed)
    jobs = [job(generator, network) for _ in range(10)]
    together = decode(network, jobs, [generator.randrange(20) for _ in jobs], share)
    for (canvas, rules, own), decoded in zip(jobs, together, strict=True):
        alone = fill_canvas(network, canvas, rules, special=SPECIAL, seed=own)
        assert torch.equal(alone.ids, decoded.ids)
        assert torch.equal(alone.steps_taken, decoded.steps_taken)
        assert (alone.forward_passes, alone.positions_computed) == (decoded.forward_passes, decoded.positions_computed)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_company_does_not_change_the_last_bit(dense, share):
    """In float32, where a product of few rows rounds otherwise: every probability is equal, however small the budgets."""
    network = Dense(float32_network()) if dense else float32_network()
    generator = random.Random(5)
    jobs = [job(generator, network) for _ in range(14)]
    jobs = [each for each in jobs if not (dense and isinstance(each[1].forward, CachedForward))][:12]
    traces = {}
    for name, arrivals, budgets in (
        ("alone", [50 * n for n in range(12)], {}),
        ("together", [0] * 12, {}),
        ("narrow", [n % 3 for n in range(12)], {"max_tokens": 64, "max_logits": 20 * VOCAB}),
    ):
        observed = [Trace() for _ in jobs]
        with ContinuousBatch(network, vocab_size=VOCAB, **budgets) as batch:
            for tick in range(600):
                for (canvas, rules, own), at, trace in zip(jobs, arrivals, observed, strict=True):
                    if at == tick:
                        batch.join(decode_steps(canvas, rules, SPECIAL, own, [trace], share))
                batch.advance()
        traces[name] = [(trace.events, trace.final) for trace in observed]
    assert all(final for _, final in traces["alone"])
    assert traces["alone"] == traces["together"] == traces["narrow"]


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("order", ["random", "left_to_right", "top_prob", "drawn_prob"])
def test_decodes_with_equal_rules_take_their_steps_together_and_keep_their_bits(order, observed):
    """Lengths, steps, seeds and arrivals differ; one operation draws the tokens of all, and each has those that it has alone."""
    network, generator, calls = float32_network(), random.Random(order), []

    class Counted(Tokens):
        def draw(self, logits, *arguments):
            calls.append(len(logits))
            return super().draw(logits, *arguments)

    jobs = []
    for number in range(8):
        ids = torch.tensor([[generator.choice([0, 0, 7, 9]) for _ in range(generator.randint(2, 30))] + [0]])
        rules = replace(make_rules(1 + 2 * number, order=order), tokens=Counted(0.8))
        jobs.append((Canvas.infill(ids, SPECIAL, torch.ones_like(ids)), rules, number))

    def run(arrivals, share):
        traces, members = [Trace() for _ in jobs], []
        with ContinuousBatch(network, vocab_size=VOCAB) as batch:
            for tick in range(max(arrivals) + 40):
                for (canvas, rules, seed), at, trace in zip(jobs, arrivals, traces, strict=True):
                    if at == tick:
                        observers = [trace] if observed else []
                        members.append(batch.join(decode_steps(canvas, rules, SPECIAL, seed, observers, share)))
                batch.advance()
        assert all(member.error is None for member in members)
        return [member.result.ids.tolist() for member in members], [(t.events, t.final) for t in traces if observed]

    alone = run([40 * number for number in range(8)], False)
    apart, drawn = len(calls), sum(calls)
    calls.clear()
    assert run([number // 3 for number in range(8)], True) == alone
    assert sum(calls) == drawn and len(calls) < apart / 2


def test_a_decode_without_a_possible_token_fails_alone_in_a_merged_step():
    network = float32_network()
    only_mask = SpecialIds(mask=0, pad=1, vocab_size=VOCAB)
    fine = Canvas.infill(torch.tensor([[5, 0, 0]]), only_mask)
    rules = make_rules(2, temperature=0.0)

    class Blind(Dense):
        def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
            logits = super().forward(x_t, attention_mask, positions)
            return logits.masked_fill((x_t == 9).any(-1)[:, None, None], torch.nan)

    bad = Canvas.infill(torch.tensor([[9, 0, 0]]), only_mask)
    with ContinuousBatch(Blind(network), vocab_size=VOCAB) as batch:
        first, second, third = (batch.join(decode_steps(c, rules, only_mask, 0, (), True)) for c in (fine, bad, fine))
        while batch.members:
            batch.advance()
    assert isinstance(second.error, ValueError) and "No token may be placed" in str(second.error)
    assert first.error is None and torch.equal(first.result.ids, third.result.ids)


def test_requests_share_forward_passes_and_leave_when_done():
    network = float32_network()
    canvas = Canvas.infill(torch.tensor([[5, 0, 0, 0, 0, 6]]), SPECIAL)
    with ContinuousBatch(network, vocab_size=VOCAB) as batch:
        for steps in (1, 2, 4):
            batch.join(decode_steps(canvas, make_rules(steps), SPECIAL, 0))
        rows = []
        while batch.members:
            batch.advance()
            rows.append([part.rows for part in batch.passes])
    assert rows == [[3], [2], [1], [1]]


def test_a_held_batch_computes_finished_rows_until_its_last_one_is_done():
    """The classic static batch: same tokens, full passes, and no answer before the end. A decode that fails is not repeated."""
    network = float32_network()
    canvas = Canvas.infill(torch.tensor([[5, 0, 0, 0, 0, 6]]), SPECIAL)

    def broken(logits, view, where):
        raise ValueError("a processor failed")

    with ContinuousBatch(network, vocab_size=VOCAB, hold=True) as batch:
        members = [batch.join(decode_steps(canvas, make_rules(steps), SPECIAL, 0)) for steps in (1, 2, 4)]
        bad = batch.join(decode_steps(canvas, make_rules(4, logits_processors=[broken]), SPECIAL, 0))
        rows, ended = [], []
        while batch.members:
            ended.append(len(batch.advance()))
            rows.append([part.rows for part in batch.passes])
    assert rows == [[4], [3], [3], [3]] and ended == [0, 0, 0, 4]
    assert [member.passes for member in members] == [1, 2, 4] and bad.error is not None
    for member, steps in zip(members, (1, 2, 4), strict=True):
        alone = fill_canvas(network, canvas, make_rules(steps), special=SPECIAL, seed=0)
        assert torch.equal(member.result.ids, alone.ids)


def test_a_failing_decode_and_a_cancelled_one_leave_the_others():
    network = float32_network()
    canvas = Canvas.infill(torch.tensor([[5, 0, 0, 0, 0, 6]]), SPECIAL)

    def broken(logits, view, where):
        raise ValueError("a processor failed")

    with ContinuousBatch(network, vocab_size=VOCAB) as batch:
        good = batch.join(decode_steps(canvas, make_rules(4), SPECIAL, 0))
        bad = batch.join(decode_steps(canvas, make_rules(4, logits_processors=[broken]), SPECIAL, 0))
        cancelled = batch.join(decode_steps(canvas, make_rules(4), SPECIAL, 0))
        batch.leave(cancelled)
        while batch.members:
            batch.advance()
    assert good.error is None and good.result is not None and cancelled.result is None
    assert str(bad.error) == "a processor failed"


def test_a_forward_pass_that_fails_fails_its_decodes_alone():
    class Failing(RotaryTransformerMLMModel):
        def hidden_states_where(self, *arguments, **options):
            raise RuntimeError("no memory")

    network = Failing(*SIZES, **FIELDS)
    canvas = Canvas.infill(torch.tensor([[5, 0, 0]]), SPECIAL)
    with ContinuousBatch(network, vocab_size=VOCAB) as batch:
        member = batch.join(decode_steps(canvas, make_rules(2), SPECIAL, 0))
        assert batch.advance() == [member] and "no memory" in str(member.error)
        assert not batch.members


def test_a_text_without_blanks_needs_no_forward_pass():
    canvas = Canvas.infill(torch.tensor([[5, 6]]), SPECIAL)
    with ContinuousBatch(float32_network(), vocab_size=VOCAB) as batch:
        member = batch.join(decode_steps(canvas, make_rules(2), SPECIAL, 0))
        assert batch.advance() == [member] and member.result.ids.tolist() == [[5, 6]] and not batch.passes


@pytest.mark.parametrize("dense", [False, True])
def test_one_token_has_the_bits_it_has_in_company(dense):
    """A product of one row takes another kernel: such a row runs repeated (``FEWEST_TOKENS``, ``FEWEST_READS``)."""
    network = Dense(float32_network()) if dense else float32_network()
    requests = []
    for length in (1, 1, 2, 3, 20):
        ids = torch.full((1, length), 7)
        ids[:, 0] = SPECIAL.mask
        canvas = Canvas.infill(ids, SPECIAL, torch.ones_like(ids, dtype=torch.bool))
        requests.append(next(decode_steps(canvas, make_rules(1, special=SPECIAL), SPECIAL, seed=0)))
    with torch.inference_mode(), prepack_weights(network):
        reach = reached(network, torch.device("cpu"))
        for request, together in zip(requests, shared_logits(reach, requests), strict=True):
            assert torch.equal(shared_logits(reach, [request])[0], together)


def test_the_measurement_tells_networks_apart_whose_rows_see_each_other():
    class Mean(Dense):
        def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
            logits = super().forward(x_t, attention_mask, positions)
            return logits + logits.mean(0, keepdim=True)

    assert company_changes_nothing(float32_network(), VOCAB, 0, 96)
    assert company_changes_nothing(Dense(float32_network()), VOCAB, 0, 96)
    assert not company_changes_nothing(Mean(float32_network()), VOCAB, 0, 96)
