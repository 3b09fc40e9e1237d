"""Filters, penalties, forbidden ids, and EOS."""

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from tests.naive.decoding import EOS, FIRST_WORD, MASK, TableModel, specials, table
from unmask.decode.block_schedule import Blocks
from unmask.decode.canvas import Canvas
from unmask.decode.logits.processors import EosLast, ForbiddenIds, PositionVocabulary, RepetitionPenalty
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.orders.scores import ConfidenceOrder, LeftToRight
from unmask.decode.orders.selector import Selector
from unmask.decode.rules import Rules
from unmask.ops.confidence import top_prob
from unmask.ops.sampling import keep_min_p, keep_top_k, keep_top_p

P = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)


def kept(logits):
    return (logits[0] > -torch.inf).nonzero()[:, 0].tolist()


def test_filters_by_hand():
    assert kept(keep_top_k(P.log(), 2)) == [0, 1]
    assert kept(keep_top_p(P.log(), 0.6)) == [0, 1]  # the token that crosses 0.6 stays
    assert kept(keep_top_p(P.log(), 0.5)) == [0]
    assert kept(keep_top_p(P.log(), 0.01)) == [0] and kept(keep_top_p(P.log(), 1.0)) == [0, 1, 2, 3]
    assert kept(keep_min_p(P.log(), 0.3)) == [0, 1, 2]  # at least .3 of .5
    assert kept(keep_min_p(P.log(), 1.0)) == [0]


def test_temperature_comes_before_the_filters():
    # Tempered by 2 the odds are .707 .548 .387 .224 of 1.866: .38 .29 .21 .12; top_p = .6 keeps two, at 1/2 it keeps one.
    draws = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    rows = P.log().expand(500, 4)
    assert Tokens(temperature=2.0, top_p=0.68).draw(rows, draws).unique().tolist() == [0, 1, 2]
    assert Tokens(temperature=1.0, top_p=0.68).draw(rows, draws).unique().tolist() == [0, 1]
    assert Tokens(temperature=0.5, top_p=0.68).draw(rows, draws).unique().tolist() == [0]
    assert Tokens(temperature=2.0, min_p=0.5).draw(rows, draws).unique().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="min_p=0"):
        Tokens(min_p=0.0)


def decode(rules, ids, p, seed=0):
    special = specials(len(p[0]))
    return fill_canvas(
        TableModel(table(p, special_logit=-9.0)),
        Canvas.infill(torch.tensor(ids), special),
        rules,
        special=special,
        seed=seed,
    )


def test_repetition_is_penalised_in_its_own_row_only():
    a, b = FIRST_WORD, FIRST_WORD + 1
    ids = [[a, MASK], [b, MASK]]
    greedy = {"tokens": Tokens(temperature=0.0), "allow_eos": False}
    # Logits log .6 = -.51 and log .4 = -.92: twice the first is the smaller.
    penalty = RepetitionPenalty(2.0, specials(2))
    assert decode(Rules(1, logits_processors=(penalty,), **greedy), ids, [[0.6, 0.4]] * 2).ids.tolist() == [
        [a, b],
        [b, a],
    ]
    nothing = RepetitionPenalty(1.0, specials(2))
    assert decode(Rules(1, logits_processors=(nothing,), **greedy), ids, [[0.6, 0.4]] * 2).ids.tolist() == [
        [a, a],
        [b, a],
    ]
    with pytest.raises(ValueError, match="not above 0"):
        RepetitionPenalty(0.0, specials(2))


def test_the_repetition_penalty_is_that_of_transformers():
    torch.manual_seed(0)
    special, ids = specials(8), torch.tensor([[4, 6, 6, MASK, 9, MASK], [5, 5, 5, 5, MASK, 3]])
    logits = 3 * torch.randn(2, 6, special.vocab_size)
    where, seen = ids == MASK, []
    canvas = Canvas.infill(ids, special)

    def keep(found, view, at):
        seen.append(found.clone())
        return found

    class Fixed:
        def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
            return logits

    for order in (LeftToRight(), ConfidenceOrder(top_prob)):  # with and without log-probabilities
        rules = Rules(1, Selector(order), logits_processors=(RepetitionPenalty(1.7, special), keep), allow_eos=False)
        fill_canvas(Fixed(), canvas, rules, special=special, seed=0)
        theirs = RepetitionPenaltyLogitsProcessor(1.7)
        expected = torch.stack([theirs(ids[b : b + 1], logits[b, i][None])[0] for b, i in where.nonzero().tolist()])
        torch.testing.assert_close(seen[-1][:, FIRST_WORD:], expected[:, FIRST_WORD:])


FORBIDDEN = (0, 1, FIRST_WORD + 7, FIRST_WORD + 8)  # the mask, PAD, a word, and an id beyond the tokenizer's vocabulary
EVERY_OPTION = [
    {"order": order, **options}
    for order in ("random", "top_prob", "prob_diff", "entropy", "drawn_prob", "left_to_right")
    for options in ({}, {"top_k": 2}, {"top_p": 0.7}, {"min_p": 0.2}, {"temperature": 0.0}, {"repetition_penalty": 1.6}, {"guidance": 0.7}, {"eos_last": True})
] + [
    {"order": "top_prob", "threshold": 0.4}, {"order": "top_prob", "factor": 0.8}, {"order": "entropy", "entropy_bound": 1.5},
    {"order": "top_prob", "cumulative_error": 0.9}, {"order": "top_prob", "threshold": 1 - 1e-9}, {"order": "top_prob", "remask": "confidence"},
    {"order": "top_prob", "remask": "mask_predict"}, {"required_ids": [FIRST_WORD + 1]}, {"order": "critic"}, {"order": "critic", "critic": "shown"},
    {"block_length": 3}, {"order": "ancestral"},
]  # fmt: skip


@pytest.mark.parametrize("options", EVERY_OPTION, ids=str)
def test_logits_of_forbidden_ids_have_no_influence(options):
    special = specials(8)
    ids = torch.tensor([[3, MASK, 4, MASK, MASK, 5, MASK, MASK], [4, 4, MASK, MASK, MASK, MASK, MASK, 6]])

    class Hashed:
        """Logits that depend on the whole row; ``more`` is added to ids that are never placed."""

        more = 0.0

        def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
            torch.manual_seed(0)
            table, place = torch.randn(FIRST_WORD + 9, FIRST_WORD + 9), torch.randn(x_t.shape[1], FIRST_WORD + 9)
            logits = 2 * (table[x_t].mean(1, keepdim=True) + place[: x_t.shape[1]])
            logits[..., list(FORBIDDEN)] += self.more
            return logits

    def decoded(more):
        model = Hashed()
        model.more = more
        judge = {"critic_model": model} if options.get("order") == "critic" else {}
        rules = make_rules(5, special=special, forbidden_ids=[FIRST_WORD + 7], **options, **judge)
        return fill_canvas(model, Canvas.infill(ids, special), rules, special=special, seed=1)

    plain = decoded(0.0)
    for more in (30.0, -30.0):
        other = decoded(more)
        assert torch.equal(other.ids, plain.ids) and torch.equal(other.steps_taken, plain.steps_taken)
    assert not torch.isin(plain.ids, torch.tensor(FORBIDDEN)).any()


def test_processors_see_special_ids_forbidden_and_cannot_allow_them():
    special, seen = specials(3), []

    def hook(logits, view, where):
        seen.append(logits.clone())
        return torch.zeros_like(logits)

    ids = decode(Rules(2, logits_processors=(hook,), allow_eos=False), [[MASK] * 4], [[0.4, 0.3, 0.3]] * 4).ids
    assert (seen[0][:, :FIRST_WORD] == -torch.inf).all() and (ids >= FIRST_WORD).all() and special.eos == EOS


def test_forbidden_ids_and_vocabularies_of_positions():
    ids = decode(
        Rules(2, logits_processors=(ForbiddenIds((FIRST_WORD,)),)), [[MASK] * 6] * 30, [[0.9, 0.05, 0.05]] * 6
    ).ids
    assert not (ids == FIRST_WORD).any() and len(ids.unique()) >= 2
    allowed = torch.zeros(2, 3, FIRST_WORD + 3, dtype=torch.bool)
    for row in range(2):
        for position in range(3):
            allowed[row, position, FIRST_WORD + (row + position) % 3] = True
    ids = decode(
        Rules(2, logits_processors=(PositionVocabulary(allowed),)), [[MASK] * 3] * 2, [[0.9, 0.05, 0.05]] * 3
    ).ids
    assert (ids - FIRST_WORD).tolist() == [[0, 1, 2], [1, 2, 0]]
    shared = decode(
        Rules(2, logits_processors=(PositionVocabulary(allowed[1:]),)), [[MASK] * 3] * 2, [[0.9, 0.05, 0.05]] * 3
    ).ids
    assert (shared - FIRST_WORD).tolist() == [[1, 2, 0]] * 2


def eager():
    """EOS is by far the likeliest token at every position."""
    logits = table([[0.5, 0.5]] * 8)
    logits[:, EOS] = 50.0
    return TableModel(logits)


def test_eos_last_requires_complete_text():
    special, canvas = specials(2), Canvas.unconditional(20, 8, specials(2))
    plain = fill_canvas(eager(), canvas, Rules(8), special=special, seed=0).ids
    assert (plain == EOS).all()

    # In random order it can only be the first blank that ends the text, once everything before is there.
    class Check:
        def update_history(self, step_results):
            placed = step_results["committed"] & (step_results["output_ids"] == EOS)
            before = step_results["candidates"].long().cumsum(-1) - step_results["candidates"].long()
            assert not (placed & (before > 0)).any()
            self.seen = getattr(self, "seen", 0) + int(placed.sum())

    check = Check()
    fill_canvas(
        eager(), canvas, Rules(8, logits_processors=(EosLast(special),)), special=special, seed=0, observers=[check]
    )
    assert check.seen > 0


def test_stopping_at_eos_gives_the_same_text_for_fewer_evaluations():
    special = specials(2)
    logits = table([[0.4, 0.6]] * 12, special_logit=-9.0)
    logits[:, EOS] = -1.0
    canvas = Canvas.unconditional(40, 12, special)
    for options in ({"selector": Selector(LeftToRight())}, {"block_schedule": Blocks(3)}, {}):
        full = fill_canvas(TableModel(logits), canvas, Rules(12, **options), special=special, seed=5)
        short = fill_canvas(TableModel(logits), canvas, Rules(12, stop_at_eos=True, **options), special=special, seed=5)
        for a, b in zip(full.ids.tolist(), short.ids.tolist(), strict=True):
            end = (*a, EOS).index(EOS)
            assert b[: end + 1] == a[: end + 1] and MASK not in b
        assert short.steps_taken.sum() < full.steps_taken.sum()
