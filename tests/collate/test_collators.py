"""Collators: maskable positions, layout, and noise that depends on the row alone."""

import inspect
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.collate.answers import SupervisedMLMCollator
from unmask.collate.infill import DefaultInfillMLMCollator, MLMInfillWithExactTargetPredCollator
from unmask.collate.labels import MaskedLMCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.padded import DefaultMLMCollator
from unmask.collate.seq2seq import MLMSeq2SeqCollator, MLMSeq2SeqPredCollator, MLMSeq2SeqTrainCollator
from unmask.contracts import SpecialIds
from unmask.ops.corruption import ConstantMaskRate, Corruption, Replacement, bernoulli, fixed_count, uniform_corruption
from unmask.ops.mask_rates import MaskRateWarmup

PAD, MASK, BOS, EOS, UNK, VOCAB = 0, 1, 2, 3, 4, 40
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS, others=(UNK,))
ALL = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(MASK))


def text(length, start=5):
    return [start + i % (VOCAB - 5) for i in range(length)]


def default(**options):
    return DefaultMLMCollator(SPECIAL, **{"block_size": 12, "loss_on_padding": False, **options})


def packed(block_size=8, **options):
    return PackedMLMCollator(SPECIAL, block_size, **options)


def masked(**options):
    return MaskedLMCollator(MASK, VOCAB, 0.5, special_ids=SPECIAL.all, **options)


def rows_of(*lengths):
    return [{"input_ids": text(n), "example_id": i} for i, n in enumerate(lengths)]


def packed_rows(count=6, block=8):
    return [{"input_ids": [*text(block - 4, 5 + i), EOS, *text(2, 9), EOS], "example_id": i} for i in range(count)]


def masked_rows(*lengths):
    return [{"tokens": text(n), "mask": [1] * n, "example_id": i} for i, n in enumerate(lengths)]


CASES = {
    "default": (default, rows_of(3, 10, 0, 25, 7)),
    "default, padding scored": (lambda **o: default(loss_on_padding=True, **o), rows_of(3, 10, 0, 25, 7)),
    "default, bare": (lambda **o: default(add_bos=False, add_eos=False, truncate=None, **o), rows_of(3, 10, 1, 25)),
    "packed": (packed, packed_rows()),
    "packed, flex": (lambda **o: packed(use_flex_attn=True, **o), packed_rows()),
    "masked": (masked, masked_rows(6, 6, 2, 9)),
}
every_collator = pytest.mark.parametrize("make, rows", CASES.values(), ids=CASES)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@every_collator
def test_equal_seed_epoch_and_id_give_equal_noise_anywhere(make, rows):
    whole = make(seed=3)(rows)
    assert same(whole, make(seed=3)(rows))
    collator = make(seed=3)
    collator(rows[2:])  # what was collated before does not matter
    assert same(whole, collator(rows))
    assert not same(whole, make(seed=4)(rows))
    collator.set_epoch(1)
    assert not same(whole, collator(rows))
    collator.set_epoch(0)
    assert same(whole, collator(rows))
    order = [3, 0, 2, 1]
    shuffled = make(seed=3)([rows[i] for i in order])
    for key in whole:
        width = min(whole[key].shape[1], shuffled[key].shape[1])
        assert torch.equal(whole[key][order][:, :width], shuffled[key][:, :width])


@every_collator
def test_a_row_alone_is_the_row_in_its_batch(make, rows):
    whole = make(seed=3)(rows)
    for i, row in enumerate(rows):
        alone = make(seed=3)([row])
        for key in whole:
            width = alone[key].shape[1]
            assert torch.equal(whole[key][i, :width], alone[key][0])


@every_collator
def test_rows_may_be_lists_arrays_tensors_arrow_or_columns(make, rows):
    expected = make(seed=3)(rows)
    fields = [name for name in rows[0] if name != "example_id"]

    def each(convert):
        return [{**{f: convert(row[f]) for f in fields}, "example_id": row["example_id"]} for row in rows]

    assert same(expected, make(seed=3)(each(lambda v: np.array(v, dtype=np.uint16))))
    assert same(expected, make(seed=3)(each(lambda v: torch.tensor(v, dtype=torch.int32))))
    assert same(expected, make(seed=3)(each(lambda v: pa.array(v, type=pa.int32()))))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert same(expected, make(seed=3)(columns))
    assert same(
        expected, make(seed=3)({**columns, **{f: pa.array(columns[f], type=pa.list_(pa.int64())) for f in fields}})
    )


@every_collator
def test_rows_are_not_changed_and_batches_do_not_share_memory_with_them(make, rows):
    arrays = [{k: np.array(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
    batch = make(seed=3)(arrays)
    for key in batch:
        batch[key].zero_()
    for row, before in zip(arrays, rows, strict=True):
        assert all(np.array_equal(row[k], before[k]) for k in row)


@every_collator
def test_a_batch_shares_no_memory_with_the_next(make, rows):
    collator = make(seed=3)
    first = collator(rows)
    before = {key: value.clone() for key, value in first.items()}
    for value in first.values():
        value.zero_()
    assert same(before, collator(rows))


def test_a_batch_shares_no_memory_with_a_matrix_of_columns():
    matrix = np.array([text(8, 5 + i) for i in range(5)])
    columns = {
        "input_ids": matrix,
        "segment_ids": np.zeros_like(matrix),
        "tokens": matrix,
        "mask": np.ones_like(matrix),
    }
    before = {key: value.copy() for key, value in columns.items()}
    for batch in (packed()(columns), masked()(columns)):
        for value in batch.values():
            value.fill_(True)
    assert all(np.array_equal(columns[key], before[key]) for key in before)


def test_special_ids_may_lie_anywhere_in_the_vocabulary():
    """Ordinary ids usually form one range, which one comparison tests; here they form three."""
    scattered = SpecialIds(mask=17, vocab_size=VOCAB, pad=0, eos=VOCAB - 1, others=(5, 6))
    ids = torch.randint(0, VOCAB, (50, 8), generator=torch.Generator().manual_seed(0))
    expected = ~torch.isin(ids, torch.tensor(scattered.all))
    for matrix in (ids, ids.T.contiguous().T):
        batch = PackedMLMCollator(scattered, 8, Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(17)))(
            {"input_ids": matrix, "segment_ids": ids * 0}
        )
        assert torch.equal(batch["noise_mask"], expected) and torch.equal(
            batch["input_ids"], torch.where(expected, 17, ids)
        )
    for wrong in (-1, VOCAB):
        with pytest.raises(ValueError, match=f"token id {wrong}"):
            PackedMLMCollator(scattered, 2)([{"input_ids": [7, wrong]}])


def test_an_epoch_in_the_rows_replaces_the_collators():
    later = default(seed=3)
    later.set_epoch(5)
    assert same(later(rows_of(6, 9)), default(seed=3)([{**row, "epoch": 5} for row in rows_of(6, 9)]))


def test_rows_without_an_id_draw_from_the_collators_own_generator():
    bare = [{"input_ids": text(9)} for _ in range(4)]
    a, b = default(seed=1), default(seed=1)
    first = a(bare)
    torch.manual_seed(99)
    assert same(first, b(bare)) and not same(first, a(bare)) and not same(first, default(seed=2)(bare))
    assert not torch.equal(first["noise_mask"][0], first["noise_mask"][1])


class Rows(torch.utils.data.Dataset):
    def __init__(self, identified):
        self.identified = identified

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"input_ids": text(10), **({"example_id": index} if self.identified else {})}


def test_workers_do_not_change_keyed_noise_and_do_not_repeat_unkeyed_noise():
    def batches(identified, workers):
        g = torch.Generator().manual_seed(7)
        return list(
            torch.utils.data.DataLoader(
                Rows(identified), 2, collate_fn=default(seed=3), num_workers=workers, generator=g
            )
        )

    for a, b in zip(batches(True, 0), batches(True, 2), strict=True):
        assert same(a, b)
    unkeyed = torch.cat([batch["p_mask"][:, 1] for batch in batches(False, 2)])
    assert len(unkeyed.unique()) == 8


def test_specials_are_never_hidden():
    collator = default(noise_schedule=ALL, truncate="max")
    batch = collator([{"input_ids": [5, UNK, 6, EOS, 7]}, {"input_ids": [8]}])
    hidden = [[0, 1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0]]
    assert batch["noise_mask"].int().tolist() == hidden
    assert batch["input_ids"].tolist() == [[BOS, MASK, UNK, MASK, EOS, MASK, EOS], [BOS, MASK, EOS, PAD, PAD, PAD, PAD]]
    assert batch["target_ids"].tolist() == [[-100, 5, -100, 6, -100, 7, -100], [-100, 8, *[-100] * 5]]
    assert batch["attention_mask"].int().tolist() == [[1] * 7, [1, 1, 1, 0, 0, 0, 0]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 0, 0, 0]]
    assert torch.equal(batch["p_mask"], torch.tensor(hidden).float())


def test_loss_on_padding_makes_padding_an_ordinary_token():
    batch = DefaultMLMCollator(SPECIAL, 6, ALL)([{"input_ids": [8]}])
    assert batch["input_ids"].tolist() == [[BOS, MASK, EOS, MASK, MASK, MASK]]
    assert batch["target_ids"].tolist() == [[-100, 8, -100, PAD, PAD, PAD]]
    assert batch["attention_mask"].all() and batch["positions"].tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("truncate, widths", [("block", (12, 12)), ("max", (7, 12)), (None, (7, 27))])
def test_truncation_keeps_bos_and_eos(truncate, widths):
    """BOS and EOS count towards the width; otherwise the longest row would be truncated wrongly."""
    collator = default(
        truncate=truncate, noise_schedule=Corruption(ConstantMaskRate(0.0), bernoulli, Replacement(MASK))
    )
    for length, width in zip((5, 25), widths, strict=True):
        (ids,) = collator([{"input_ids": text(length)}])["input_ids"].tolist()
        kept = text(length)[: width - 2]
        assert ids == [BOS, *kept, EOS, *[PAD] * (width - 2 - len(kept))]


def test_the_noise_schedule_is_used():
    rows = [{"input_ids": text(10), "example_id": i} for i in range(3000)]
    shares = {}
    for name in ("linear", "cosine", "quadratic", lambda t: t**3):
        shares[name] = float(default(noise_schedule=name)(rows)["p_mask"][:, 1].mean())
    assert list(shares.values()) == pytest.approx([1 / 2, 2 / np.pi, 1 / 3, 1 / 4], abs=0.02)


def test_epoch_places_spread_the_mask_rates_over_every_global_batch():
    rows = [{"input_ids": text(10), "example_id": 90 - i, "epoch_place": i} for i in range(16)]
    p = default(seed=2)(rows)["p_mask"][:, 1]
    cut = torch.cat([default(seed=2)(part)["p_mask"][:, 1] for part in (rows[:3], rows[3:11], rows[11:])])
    assert torch.equal(p, cut)
    assert float(p.sort().values.diff().max()) < 2.7 / 16
    free = default(seed=2, low_discrepancy_times=False)(rows)["p_mask"][:, 1]
    assert not torch.equal(free, p)


def test_packed_rows_never_hide_separators_or_padding():
    """A common published packed collator masks and scores PAD; this one must not."""
    batch = packed(noise_schedule=ALL)([{"input_ids": [5, 6, EOS, 7, EOS, 8, PAD, PAD]}])
    assert batch["input_ids"].tolist() == [[MASK, MASK, EOS, MASK, EOS, MASK, PAD, PAD]]
    assert batch["target_ids"].tolist() == [[5, 6, -100, 7, -100, 8, -100, -100]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 2, 3, 3]]
    assert batch["positions"].tolist() == [[0, 1, 2, 0, 1, 0, 0, 0]]
    assert batch["attention_mask"].int().tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]


def test_packed_rows_for_flex_are_plain_tensors_of_the_contract():
    batch = packed(use_flex_attn=True)(packed_rows())
    assert set(batch) == {"input_ids", "target_ids", "positions", "segment_ids", "noise_mask", "p_mask"}
    assert same(batch, {k: v for k, v in packed()(packed_rows()).items() if k in batch})


def test_segment_ids_of_a_packer_are_used_and_padding_is_its_own_segment():
    rows = [{"input_ids": [5, 6, 7, 8, 9, PAD], "segment_ids": [0, 0, 0, 1, 1, 1]}]
    batch = packed(6)(rows)
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch["positions"].tolist() == [[0, 1, 2, 0, 1, 0]]


def test_rows_with_segment_ids_need_no_eos():
    batch = PackedMLMCollator(SpecialIds(MASK, VOCAB, pad=PAD), 4)(
        [{"input_ids": [5, 6, 7, PAD], "segment_ids": [0, 0, 1, 2]}]
    )
    assert batch["segment_ids"].tolist() == [[0, 0, 1, 2]] and batch["positions"].tolist() == [[0, 1, 0, 0]]


def test_where_pad_is_eos_the_first_of_a_run_ends_a_document():
    shared = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=EOS, eos=EOS)
    batch = PackedMLMCollator(shared, 8, ALL)([{"input_ids": [5, EOS, 6, 7, EOS, EOS, EOS, EOS]}])
    assert batch["attention_mask"].int().tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch["segment_ids"].tolist() == [[0, 0, 1, 1, 1, 2, 2, 2]]


def test_masked_lm_batches_have_tokens_mask_and_labels():
    collator = MaskedLMCollator(
        MASK, VOCAB, 1.0, special_ids=SPECIAL.all, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    batch = collator([{"tokens": [BOS, 5, 6, 7], "mask": [1, 1, 0, 1]}, {"tokens": [8, 9], "mask": [1, 1]}])
    assert batch["tokens"].tolist() == [[BOS, MASK, 6, MASK], [MASK, MASK, PAD, PAD]]
    assert batch["labels"].tolist() == [[-100, 5, -100, 7], [8, 9, -100, -100]]
    assert batch["mask"].tolist() == [[1, 1, 0, 1], [1, 1, 0, 0]]


def test_masked_lm_uses_the_special_ids_of_a_tokenizer():
    rows = masked_rows(*[30] * 200)
    by_ids, by_tokenizer = masked(), MaskedLMCollator(MASK, VOCAB, 0.5, tokenizer=SPECIAL)
    assert same(by_ids(rows), by_tokenizer(rows))
    batch = by_ids(rows)
    drawn = batch["tokens"][(batch["labels"] != -100) & (batch["tokens"] != MASK)]
    assert len(drawn) and not set(drawn.tolist()) & set(SPECIAL.all)


def test_a_column_matrix_takes_the_same_path():
    matrix = torch.tensor([text(8, 5 + i) for i in range(5)])
    rows = [{"input_ids": row.tolist(), "segment_ids": [0] * 8, "example_id": i} for i, row in enumerate(matrix)]
    columns = {"input_ids": matrix, "segment_ids": torch.zeros_like(matrix), "example_id": torch.arange(5)}
    assert same(packed(seed=2)(rows), packed(seed=2)(columns))
    turned = {**columns, "input_ids": matrix.T.contiguous().T}  # the same numbers, column after column in memory
    assert same(packed(seed=2)(rows), packed(seed=2)(turned))


ragged = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=30), min_size=1, max_size=6)


@given(ragged, st.sampled_from(["block", "max", None]), st.booleans(), st.booleans(), st.booleans(), st.integers(3, 16))
@settings(max_examples=80, deadline=None)
def test_any_ragged_rows_keep_the_contract(rows, truncate, bos, eos, on_padding, block):
    """Empty rows, one-token rows, rows of special tokens only, rows longer than the block."""
    exact = uniform_corruption(MASK, exact=True)
    collator = DefaultMLMCollator(SPECIAL, block, exact, on_padding, truncate, bos, eos)
    batch = collator([{"input_ids": row} for row in rows])
    shape = batch["input_ids"].shape
    assert all(value.shape == shape for value in batch.values())
    assert shape[1] == block if truncate == "block" else truncate is None or shape[1] <= block
    for i, row in enumerate(rows):
        room = shape[1] - bos - eos if truncate else None
        framed = [BOS] * bos + row[:room] + [EOS] * eos
        clean = torch.tensor(framed + [PAD] * (shape[1] - len(framed)))
        scored = batch["noise_mask"][i]
        assert torch.equal(batch["input_ids"][i][~scored], clean[~scored])
        assert torch.equal(batch["target_ids"][i][scored], clean[scored])
        special = torch.isin(clean, torch.tensor(SPECIAL.all))
        special[len(framed) :] &= not on_padding
        assert not scored[special].any() and (batch["target_ids"][i][special] == -100).all()
        assert scored.sum() >= min(1, (~special).sum())
        assert torch.equal(batch["p_mask"][i] > 0, ~special)


@pytest.mark.parametrize("call, message", [
    (lambda: default()([]), "at least one row"),
    (lambda: default()([{"text": "hello"}]), "need the field 'input_ids' and these have 'text'"),
    (lambda: default()([{"input_ids": ["a", "b"]}]), "must be integers"),
    (lambda: default()([{"input_ids": [5, VOCAB]}]), "token id 40"),
    (lambda: default()([{"input_ids": [5, -1]}]), "token id -1"),
    (lambda: default()([{"input_ids": [5], "example_id": 1}, {"input_ids": [5]}]), "1 of 2 rows carry 'example_id'"),
    (lambda: default(truncate="right"), "truncate='right'"),
    (lambda: default(block_size=2), "no room"),
    (lambda: packed()([{"input_ids": [5] * 7}]), "exactly block_size=8"),
    (lambda: PackedMLMCollator(SpecialIds(MASK, VOCAB, pad=PAD), 2)([{"input_ids": [5, 6]}]), "no EOS token"),
    (lambda: masked()([{"tokens": [5, 6], "mask": [1]}]), "as long as"),
    (lambda: MaskedLMCollator(50, VOCAB), "not an id"),
    (lambda: DefaultMLMCollator(SpecialIds(MASK, VOCAB, pad=PAD), 8), "no BOS token"),
    (lambda: DefaultMLMCollator(SpecialIds(MASK, VOCAB), 8), "no PAD token"),
    (lambda: DefaultMLMCollator(object(), 8), "no mask token"),
    (lambda: default(noise_schedule="linaer"), "no schedule"),
])  # fmt: skip
def test_errors_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_empty_rows_are_padded_to_width_one():
    batch = default(add_bos=False, add_eos=False, truncate=None)([{"input_ids": []}, {"input_ids": []}])
    assert batch["input_ids"].tolist() == [[PAD], [PAD]] and not batch["attention_mask"].any()


def test_widths_are_rounded_up_and_fields_passed_through():
    collator = default(truncate=None, pad_to_multiple_of=8, pass_through=["weight", "name"])
    batch = collator(
        [{"input_ids": text(3), "weight": 0.5, "name": "a"}, {"input_ids": text(9), "weight": 2.0, "name": "b"}]
    )
    assert batch["noise_mask"].shape == (2, 16)
    assert batch["weight"].tolist() == [0.5, 2.0] and batch["name"] == ["a", "b"]
    assert default(block_size=16, truncate="max", pad_to_multiple_of=8)(rows_of(3))["input_ids"].shape == (1, 8)
    with pytest.raises(ValueError, match="do not fit"):
        default(block_size=12, pad_to_multiple_of=8)
    with pytest.raises(ValueError, match="already has"):
        default(pass_through=["input_ids"])(rows_of(3))
    with pytest.raises(ValueError, match="'label'"):
        default(pass_through=["label"])(rows_of(3))


def test_a_mask_rate_curriculum_follows_the_rows_progress():
    law = Corruption(MaskRateWarmup(ConstantMaskRate(0.4), ConstantMaskRate(0.1)), bernoulli, Replacement(MASK))
    rows = [{"input_ids": text(9), "progress": progress} for progress in (0.0, 0.5, 1.0)]
    assert default(noise_schedule=law)(rows)["p_mask"][:, 1].tolist() == pytest.approx([0.4, 0.25, 0.1])
    with pytest.raises(ValueError, match="'progress'"):
        default(noise_schedule=law)(rows_of(4))


def own(t):
    return t**2


EVERY = [
    (DefaultMLMCollator, {"tokenizer": SPECIAL, "block_size": 12}), (PackedMLMCollator, {"tokenizer": SPECIAL, "block_size": 12}),
    (MaskedLMCollator, {"mask_token_id": MASK, "vocab_size": VOCAB}), (SupervisedMLMCollator, {"tokenizer": SPECIAL, "block_size": 12}),
    (DefaultInfillMLMCollator, {"tokenizer": SPECIAL, "block_size": 12}), (MLMInfillWithExactTargetPredCollator, {"tokenizer": SPECIAL, "block_size": 12}),
    (MLMSeq2SeqTrainCollator, {"tokenizer": SPECIAL}), (MLMSeq2SeqCollator, {"tokenizer": SPECIAL}), (MLMSeq2SeqPredCollator, {"tokenizer": SPECIAL}),
]  # fmt: skip
OTHERS = {
    "noise_schedule": own, "block_size": 24, "input_block_size": 8, "loss_on_padding": False, "truncate": "max", "add_bos": False, "add_eos": False,
    "pad_to_multiple_of": 4, "use_flex_attn": True, "probability": 0.3, "special_ids": (0, 2), "mask_replace_prob": 0.7, "random_replace_prob": 0.2, "seed": 5,
    "low_discrepancy_times": False, "pass_through": ("name",), "tokenizer": SPECIAL, "mask_token_id": 3, "vocab_size": 30,
}  # fmt: skip


@pytest.mark.parametrize("kind, needed", EVERY, ids=lambda x: getattr(x, "__name__", ""))
def test_a_collators_options_are_in_its_signature_and_stay_with_it(kind, needed):
    """Also after pickling, as in loader workers and checkpoints."""
    parameters = inspect.signature(kind).parameters
    assert {p.kind for p in parameters.values()} <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    }
    assert {"seed", "low_discrepancy_times", "time_sampling", "pass_through"} <= set(parameters)
    for name in parameters.keys() - {"tokenizer", "time_sampling"}:
        defaults = kind(**needed)
        assert getattr(defaults, name) == needed.get(name, parameters[name].default)
        made = kind(**{**needed, name: OTHERS[name]})
        for one in (made, pickle.loads(pickle.dumps(made))):
            assert getattr(one, name) == OTHERS[name]


def test_masked_lm_keeps_its_arguments_as_attributes():
    collator = MaskedLMCollator(MASK, VOCAB, tokenizer=SPECIAL)
    assert (
        MaskedLMCollator.PROBABILITY == collator.probability == 0.15
        and collator.tokenizer == SPECIAL
        and masked().tokenizer is None
    )


def test_a_pickled_collator_continues_its_own_noise():
    bare = [{"input_ids": text(9)} for _ in range(4)]
    collator = default(seed=1)
    collator(bare)
    collator.set_epoch(3)
    again = pickle.loads(pickle.dumps(collator))
    assert same(again(bare), collator(bare)) and again.epoch == 3
    again.set_epoch(4)
    assert collator.epoch == 3


def test_fixed_counts_mask_at_least_one_token_of_every_row():
    exact = Corruption(ConstantMaskRate(0.0), fixed_count, Replacement(MASK))
    assert (default(noise_schedule=exact)(rows_of(1, 5, 9))["noise_mask"].sum(-1) == 1).all()
