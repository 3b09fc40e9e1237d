"""Causal language models as masked ones: the original's logits where nothing was opened, and both sides where it was."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OlmoConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from unmask.contracts import SpecialIds
from unmask.models.causal_lm import CausalLMAsMLM
from unmask.training.loss import MLMLoss

V, BOS = 30, 1
SIZES = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
IDS = {"pad_token_id": 0, "bos_token_id": BOS, "eos_token_id": 2}
FAMILIES = {
    "llama": LlamaConfig(**SIZES, **IDS, num_key_value_heads=2),
    "llama tied": LlamaConfig(**SIZES, **IDS, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES, **IDS, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SIZES, **IDS, num_key_value_heads=2, head_dim=8),
    "mistral": MistralConfig(**SIZES, **IDS, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=32, **IDS),
    "gpt-neox": GPTNeoXConfig(**SIZES, **IDS),
    "gemma2, capped logits": Gemma2Config(
        **SIZES, **IDS, head_dim=8, num_key_value_heads=2, final_logit_softcapping=2.0
    ),
    "gemma": GemmaConfig(**SIZES, **IDS, head_dim=8, num_key_value_heads=2),
    "gemma3": Gemma3TextConfig(**SIZES, **IDS, head_dim=8, num_key_value_heads=2, sliding_window=4),
    "mistral, a window": MistralConfig(**SIZES, **IDS, num_key_value_heads=2, sliding_window=4),
    "qwen2, a window": Qwen2Config(
        **SIZES, **IDS, num_key_value_heads=2, use_sliding_window=True, sliding_window=4, max_window_layers=0
    ),
    "phi": PhiConfig(**SIZES, **IDS),
    "olmo": OlmoConfig(**SIZES, **IDS),
}


@pytest.fixture(params=FAMILIES)
def causal(request):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[request.param]).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def ids(rows=2, length=9):
    return torch.randint(3, V, (rows, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_causal_and_shifted_it_is_the_original(causal):
    x = ids()
    original = causal(torch.cat([torch.full((2, 1), BOS), x], 1)).logits[:, :-1]
    model = CausalLMAsMLM(causal, mask_idx=V - 1, bos_idx=BOS, future=0.0)
    torch.testing.assert_close(model(x), original, rtol=1e-4, atol=1e-5)
    unshifted = CausalLMAsMLM(causal, mask_idx=V - 1, shift=False, future=0.0)
    torch.testing.assert_close(unshifted(x), causal(x).logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shift", [True, False])
def test_padding_and_packing_change_nothing(causal, shift):
    model = CausalLMAsMLM(causal, mask_idx=V - 1, bos_idx=BOS, shift=shift)
    x = ids(1, 6)
    alone = model(x)
    for left, right in ((3, 0), (0, 3), (2, 1)):
        padded = torch.nn.functional.pad(x, (left, right), value=0)
        real = torch.nn.functional.pad(torch.ones_like(x, dtype=torch.bool), (left, right))
        both = torch.cat([padded, ids(1, padded.shape[1])]), torch.cat([real, torch.ones_like(real)])
        torch.testing.assert_close(model(*both)[:1, left : left + 6], alone, rtol=1e-4, atol=1e-5)
    other = ids(1, 4)
    packed = model(torch.cat([x, other], 1), segment_ids=torch.tensor([[0] * 6 + [1] * 4]))
    torch.testing.assert_close(packed, torch.cat([alone, model(other)], 1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_both_sides_are_seen_and_annealing_lies_between(causal):
    model = CausalLMAsMLM(causal, mask_idx=V - 1, bos_idx=BOS)
    x, other = ids(1), ids(1)
    other[0, -1] = 3 + (other[0, -1] - 2) % (V - 3)
    assert (model(x) - model(other))[0, -2].abs().max() > 0
    model.set_future(0.0)
    assert torch.equal(model(x)[0, :-1], model(other)[0, :-1])
    model.set_future(0.5)
    seen = sum(bool(model._pairs(torch.ones(1, 8, dtype=torch.bool))[0].triu(1).any()) for _ in range(8))
    assert seen >= 7


def test_an_added_mask_starts_as_the_mean_and_changes_no_other_logit(causal):
    x = ids()
    with torch.no_grad():
        before = causal(x).logits
        mask = CausalLMAsMLM.add_mask(causal)
        after = causal(x).logits
    assert mask == V and after.shape[-1] == V + 1
    torch.testing.assert_close(after[..., :V], before, rtol=1e-4, atol=1e-5)
    table = causal.get_input_embeddings().weight
    torch.testing.assert_close(table[mask], table[:V].mean(0))


def test_training_lowers_the_loss(causal):
    mask = CausalLMAsMLM.add_mask(causal)
    model = CausalLMAsMLM(causal, mask_idx=mask, bos_idx=BOS)
    x = ids(8, 6)
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    batch = {
        "input_ids": x.masked_fill(hidden, mask),
        "target_ids": x,
        "noise_mask": hidden,
        "p_mask": torch.full(x.shape, 0.5),
    }
    loss = MLMLoss(tokenizer=SpecialIds(mask=mask, vocab_size=V + 1, pad=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        value = loss(batch, model)["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.5 * values[0]


def test_a_window_stays_on_both_sides_when_attention_is_opened():
    torch.manual_seed(0)
    one_layer = MistralConfig(**{**SIZES, "num_hidden_layers": 1}, **IDS, num_key_value_heads=2, sliding_window=3)
    model = CausalLMAsMLM(AutoModelForCausalLM.from_config(one_layer).eval(), mask_idx=V - 1, shift=False)
    x = ids(1)
    with torch.no_grad():
        for place in range(9):
            other = x.clone()
            other[0, place] = 3 + (other[0, place] - 2) % (V - 3)
            moved = (model(x) - model(other))[0].abs().amax(-1) > 0
            assert moved.nonzero()[:, 0].tolist() == list(range(max(0, place - 2), min(9, place + 3)))


def test_layers_that_cannot_be_opened_are_refused_by_their_name():
    config = LlamaConfig(**SIZES, **IDS)
    model = AutoModelForCausalLM.from_config(config)
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ValueError, match="layers of linear_attention"):
        CausalLMAsMLM(model, mask_idx=3, bos_idx=BOS)


def test_what_does_not_fit_is_refused(causal):
    with pytest.raises(ValueError, match="bos_idx is None"):
        CausalLMAsMLM(causal, mask_idx=3)
    with pytest.raises(ValueError, match=r"lies in \[0, 1\]"):
        CausalLMAsMLM(causal, mask_idx=3, bos_idx=BOS, future=1.5)
    with pytest.raises(ValueError, match="no vocabulary head"):
        CausalLMAsMLM(causal.base_model, mask_idx=3, bos_idx=BOS)
    model = CausalLMAsMLM(causal, mask_idx=3, bos_idx=BOS)
    with pytest.raises(ValueError, match="positions"):
        model(ids(1, 4), positions=torch.tensor([[0, 1, 3, 2]]))
    with pytest.raises(ValueError, match=r"takes 3[012]"):
        model(ids(1, 40))
