"""Hugging Face masked language models: their own logits, the head only where asked, and padding that changes nothing."""

import pytest
import torch

from unmask import HuggingFaceMLM, MLMLoss, MLMPredictor, SpecialIds

transformers = pytest.importorskip("transformers")
V, L = 37, 12
SIZES = {
    "vocab_size": V,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
}
SPECIAL = SpecialIds(mask=4, pad=0, vocab_size=V)
FAMILIES = {
    "Bert": SIZES,
    "Roberta": {**SIZES, "max_position_embeddings": 40},
    "ModernBert": {
        **SIZES,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "global_attn_every_n_layers": 2,
        "local_attention": 6,
    },
    "DistilBert": {"vocab_size": V, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "pad_token_id": 0},
    "Electra": {**SIZES, "embedding_size": 16},
    "Albert": {**SIZES, "embedding_size": 16},
    "DebertaV2": {**SIZES, "legacy": False},  # a head that is given the embedding too
}


def network(family: str):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    return getattr(transformers, f"{family}ForMaskedLM")(config).eval()


def rows(padded: int = 0):
    ids = torch.randint(5, V, (3, L))
    return torch.cat([ids, torch.zeros(3, padded, dtype=torch.int64)], 1), torch.arange(L + padded).expand(3, -1) < L


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_the_models_own_and_the_head_runs_only_where_read(family):
    model = network(family)
    ours = HuggingFaceMLM(model)
    ids, real = rows(padded=3)
    where = real & (torch.rand(ids.shape) < 0.4)
    dense = model(input_ids=ids, attention_mask=real.long()).logits
    torch.testing.assert_close(ours(ids, real)[real], dense[real], atol=1e-5, rtol=1e-4)
    asked = ours.logits_at(ours.hidden_states(ids, real), where)
    torch.testing.assert_close(asked, dense[where], atol=1e-5, rtol=1e-4)
    weights = list(model.parameters())
    targets = torch.randint(5, V, (int(where.sum()),))
    gradients = [
        torch.autograd.grad(torch.nn.functional.cross_entropy(x, targets), weights, allow_unused=True)
        for x in (asked, dense[where])
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "ModernBert", "DistilBert", "DebertaV2"])
def test_padding_on_either_side_changes_no_logits_of_real_tokens(family):
    ours = HuggingFaceMLM(network(family))
    ids, _ = rows()
    plain = ours(ids, torch.ones_like(ids, dtype=torch.bool))
    for left, right in ((4, 0), (0, 4), (3, 2)):
        padded = torch.nn.functional.pad(ids, (left, right), value=0)
        real = torch.nn.functional.pad(torch.ones_like(ids, dtype=torch.bool), (left, right), value=False)
        torch.testing.assert_close(ours(padded, real)[real].view_as(plain), plain, atol=1e-5, rtol=1e-4)


def test_tied_weights_stay_one_and_training_the_wrapper_trains_the_model():
    model = network("Bert")
    ours = HuggingFaceMLM(model)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids, real = rows()
    batch = {"input_ids": ids.masked_fill(torch.rand(ids.shape) < 0.3, 4), "target_ids": ids, "attention_mask": real}
    loss = MLMLoss(model=ours, tokenizer=SpecialOnly)(batch)
    loss["loss"].backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


class SpecialOnly:
    """A tokenizer reduced to its ids."""

    mask_token_id, pad_token_id, vocab_size, all_special_ids = 4, 0, V, [0, 4]


@pytest.mark.parametrize("family", ["Bert", "ModernBert", "DistilBert"])
def test_a_predictor_fills_with_it(family):
    ids, real = rows(padded=2)
    batch = {"input_ids": ids.masked_fill((torch.arange(L + 2) % 3 == 0) & real, 4), "attention_mask": real}
    predictor = MLMPredictor(4, model=HuggingFaceMLM(network(family)), special=SPECIAL, confidence="top_prob", seed=0)
    found = predictor.predict(batch)["ids"]
    assert not torch.isin(found[real], torch.tensor([0, 4])).any()
    given = real & (batch["input_ids"] != 4)
    assert torch.equal(found[given], ids[given])


def test_other_models_than_masked_language_models_raise():
    small = {**SIZES, "is_decoder": True}
    with pytest.raises(ValueError, match="causal"):
        HuggingFaceMLM(transformers.BertLMHeadModel(transformers.BertConfig(**small)))
    with pytest.raises(ValueError, match="causal"):
        HuggingFaceMLM(
            transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=V, n_embd=16, n_layer=1, n_head=2))
        )
    with pytest.raises(ValueError, match="no vocabulary head"):
        HuggingFaceMLM(transformers.BertModel(transformers.BertConfig(**SIZES)))
    with pytest.raises(ValueError, match="does not support a block_mask"):
        HuggingFaceMLM(network("Bert")).hidden_states(*rows()[:1], block_mask=object())


def test_what_looks_causal_and_is_not_is_taken():
    """XLM can generate, so only its attention tells whether it is causal."""
    sizes = {"vocab_size": V, "emb_dim": 16, "n_layers": 2, "n_heads": 2, "pad_index": 0, "mask_index": 4}
    model = transformers.XLMWithLMHeadModel(transformers.XLMConfig(**sizes)).eval()
    ids, real = rows()
    torch.testing.assert_close(HuggingFaceMLM(model)(ids, real), model(input_ids=ids).logits)
    with pytest.raises(ValueError, match="causal"):
        HuggingFaceMLM(transformers.XLMWithLMHeadModel(transformers.XLMConfig(**sizes, causal=True)))


def test_documents_of_packed_rows_are_apart():
    ours = HuggingFaceMLM(network("Roberta"))
    ids, real = rows(padded=2)
    segments = (torch.arange(L + 2) >= 5).long().expand(3, -1)
    packed = ours(ids, real, segment_ids=segments, positions=torch.arange(L + 2).sub(5 * segments))
    torch.testing.assert_close(packed[:, :5], ours(ids[:, :5]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(packed[:, 5:L], ours(ids[:, 5:L]), atol=1e-5, rtol=1e-4)


def test_positions_are_the_callers_or_refused():
    ids, _ = rows()
    backwards = torch.arange(L).flip(0).expand(3, -1)
    own = network("Roberta")
    torch.testing.assert_close(
        HuggingFaceMLM(own)(ids, positions=backwards), own(input_ids=ids, position_ids=backwards + 1).logits
    )
    counts_alone = HuggingFaceMLM(transformers.RoFormerForMaskedLM(transformers.RoFormerConfig(**SIZES)).eval())
    torch.testing.assert_close(counts_alone(ids, positions=torch.arange(L).expand(3, -1)), counts_alone(ids))
    with pytest.raises(ValueError, match="has no position ids"):
        counts_alone(ids, positions=backwards)


def test_a_network_is_as_it_was_after_the_comparison():
    """BigBird changes its own attention on short rows; comparing short rows must not."""
    config = transformers.BigBirdConfig(**SIZES, attention_type="block_sparse", block_size=4, num_random_blocks=1)
    model = transformers.BigBirdForMaskedLM(config).train()
    before, draw = {k: v.clone() for k, v in model.state_dict().items()}, torch.random.get_rng_state()
    ours = HuggingFaceMLM(model)
    assert "padding" in str(ours.path)
    assert torch.equal(torch.random.get_rng_state(), draw)
    assert model.bert.attention_type == "block_sparse" and all(m.training for m in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_fresh_network_is_run_as_it_will_need_once_trained():
    """The attention of a fresh model is flat, so a wrong position of a padded row moves its logits less than rounding."""
    torch.manual_seed(0)
    model = transformers.RoFormerForMaskedLM(transformers.RoFormerConfig(**SIZES)).eval()
    ours = HuggingFaceMLM(model)
    assert ours.path.padding == "moved"
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    ids, real = rows()
    left = torch.nn.functional.pad(ids, (3, 0)), torch.nn.functional.pad(real, (3, 0))
    torch.testing.assert_close(ours(*left)[:, 3:], model(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


def test_what_is_added_to_the_embedding_of_a_mask_is_not_lost():
    """ESM sets the embedding of a mask to zero, so additions enter after that."""
    torch.manual_seed(0)
    config = transformers.EsmConfig(**SIZES, mask_token_id=4, token_dropout=True, position_embedding_type="rotary")
    ours = HuggingFaceMLM(transformers.EsmForMaskedLM(config).eval())
    ids, real = rows()
    ids[:, 3:6] = 4
    plain = ours(ids, real)
    zeros = torch.zeros(*ids.shape, 16)
    torch.testing.assert_close(
        ours.logits_at(ours.hidden_states(ids, real, sum_embeds=zeros), real).view_as(plain), plain
    )
    at_masks = (torch.randn_like(zeros) * (ids == 4)[..., None]).requires_grad_()
    ours.hidden_states(ids, real, sum_embeds=at_masks).sum().backward()
    assert (at_masks.grad[ids == 4].abs().amax(-1) > 0).all()


def test_ids_beyond_the_embedding_are_named():
    ids, real = rows(padded=2)
    for wrong in (V + 3, -1):
        ids[1, 2] = wrong
        with pytest.raises(ValueError, match=f"token id {wrong}, .* ids 0 to {V - 1}.*resize_token_embeddings"):
            HuggingFaceMLM(network("Bert"))(ids, real)
    ids[1, 2], ids[:, L:] = 5, -100  # nobody reads what stands under padding
    assert HuggingFaceMLM(network("Bert"))(ids, real)[real].isfinite().all()


def test_the_longest_row_is_that_of_the_position_table():
    sizes = {**SIZES, "max_position_embeddings": 40}
    for pad in (0, 1, 5):
        assert (
            HuggingFaceMLM(
                transformers.RobertaForMaskedLM(transformers.RobertaConfig(**{**sizes, "pad_token_id": pad}))
            ).max_length
            == 39 - pad
        )
    assert HuggingFaceMLM(transformers.YosoForMaskedLM(transformers.YosoConfig(**sizes))).max_length == 40
    assert HuggingFaceMLM(transformers.BertForMaskedLM(transformers.BertConfig(**sizes))).max_length == 40


def test_chunks_that_only_wide_rows_show_are_found_when_these_come():
    """A short row fits BigBird's blocks whole; a wide one reads padding through the blocks it chooses by the row's length."""
    torch.manual_seed(0)
    config = transformers.BigBirdConfig(
        **SIZES, attention_type="block_sparse", block_size=4, num_random_blocks=1, max_position_embeddings=64
    )
    model = transformers.BigBirdForMaskedLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    ours = HuggingFaceMLM(model)
    assert ours.path.padding != "equal"
    ids = torch.randint(5, V, (2, 45))
    real = torch.ones_like(ids, dtype=torch.bool)
    left = torch.nn.functional.pad(ids, (9, 0)), torch.nn.functional.pad(real, (9, 0))
    torch.testing.assert_close(ours(*left)[:, 9:], model(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    assert ours.path.padding == "equal"


def test_weights_without_values_are_not_run():
    with torch.device("meta"):
        ours = HuggingFaceMLM(transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)))
    assert ours.max_length == 512
    with pytest.raises(ValueError, match="meta device"):
        assert ours.path
