"""``diffusion_generate`` of the exported code writes the tokens of ``unmask generate --order top_prob --temperature 0``."""

import pytest
import torch
from transformers import AutoModelForMaskedLM

import unmask
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.token_bytes import parts_of_characters
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.named import make_rules
from unmask.export.hub_code.modeling_unmask import UnmaskConfig, UnmaskForMaskedLM
from unmask.export.hub_folder import _diffusion
from unmask.export.hub_weights import hub_sizes, hub_weights
from unmask.text.batching import left_padded


@pytest.fixture(scope="module")
def both(trained, exported):
    return unmask.load(trained, device="cpu"), AutoModelForMaskedLM.from_pretrained(exported)


def rows(tokenizer, *texts):
    batch = left_padded([tokenizer.encode(text, allow_mask=True) for text in texts], tokenizer.pad_token_id)
    return batch["input_ids"], batch["attention_mask"].long()


@pytest.mark.parametrize("steps", [None, 5, 1])
@pytest.mark.parametrize("prompt", ["the cat", "a dog [MASK] the", "my aunt likes a stone.\n"])
def test_the_same_tokens_as_generate(both, prompt, steps):
    ours, theirs = both
    written = ours.generate(prompt, new_tokens=20, order="top_prob", temperature=0.0, steps=steps)
    ids, real = rows(ours.tokenizer, prompt)
    found = theirs.diffusion_generate(ids, real, max_new_tokens=20, steps=steps)
    assert ours.tokenizer.decode(found[0]) == written.text


def test_a_batch_is_its_rows_one_by_one(both):
    ours, theirs = both
    prompts = ["the cat", "my aunt [MASK] old trees. a dog", "a"]
    ids, real = rows(ours.tokenizer, *prompts)
    together = theirs.diffusion_generate(ids, real, max_new_tokens=12, steps=6)
    for number, prompt in enumerate(prompts):
        alone = theirs.diffusion_generate(*rows(ours.tokenizer, prompt), max_new_tokens=12, steps=6)
        assert torch.equal(together[number, -alone.shape[1] :], alone[0])


def test_masks_alone_are_filled_and_given_tokens_stay(both):
    ours, theirs = both
    ids, _ = rows(ours.tokenizer, "the cat [MASK] the [MASK].")
    found = theirs.diffusion_generate(ids, max_new_tokens=0)
    given = ids != ours.tokenizer.mask_token_id
    assert found.shape == ids.shape and torch.equal(found[given], ids[given])
    assert ours.tokenizer.decode(found[0]) == ours.fill("the cat [MASK] the [MASK].").text


def test_defaults_come_from_the_configuration(both):
    ours, theirs = both
    assert theirs.config.diffusion["temperature"] == 0.0
    ids, real = rows(ours.tokenizer, "the")
    assert theirs.diffusion_generate(ids, real).shape[1] == ids.shape[1] + theirs.config.diffusion["max_new_tokens"]


def test_temperature_draws_from_the_generator(both):
    ours, theirs = both
    ids, real = rows(ours.tokenizer, "the")
    drawn = [
        theirs.diffusion_generate(ids, real, 24, temperature=2.0, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    special = set(ours.tokenizer.all_special_ids)
    assert not special & set(drawn[0][0, ids.shape[1] :].tolist())
    "".join(map(ours.tokenizer.token_text, drawn[0][0].tolist()))
    assert "\ufffd" not in ours.tokenizer.decode(drawn[0][0])


def test_options_out_of_range_are_refused(both):
    ids = torch.tensor([[7]])
    for options in ({"max_new_tokens": -1}, {"temperature": -1.0}, {"steps": 0}):
        with pytest.raises(ValueError, match="or more"):
            both[1].diffusion_generate(ids, **options)


@pytest.mark.parametrize("steps", [None, 4, 1])
@pytest.mark.parametrize("seed", range(3))
def test_parts_of_characters_are_placed_as_we_place_them(steps, seed):
    """An untrained network of a tokenizer whose tokens are mostly single bytes of UTF-8."""
    tokenizer = unmask.Tokenizer.train(["naïve café 日本語 🙂🙂 русский текст"] * 3, 300)
    torch.manual_seed(seed)
    network = unmask.RotaryTransformerMLMModel(len(tokenizer), 32, 2, 2, mask_idx=tokenizer.mask_token_id).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        network.head.projection.bias[list(parts_of_characters(tokenizer))] += 6.0  # what it would place everywhere
    special = SpecialIds.of(tokenizer)
    model = UnmaskForMaskedLM(
        UnmaskConfig(**hub_sizes(network), diffusion=_diffusion(network, tokenizer, special))
    ).eval()
    model.load_state_dict(hub_weights(network))
    ids, real = rows(tokenizer, "café [MASK][MASK][MASK] 日", "[MASK]語[MASK][MASK][MASK][MASK][MASK] 🙂")
    ids[0, -1] = int(next(iter(model.config.diffusion["character_parts"])))  # a lone byte among the given tokens
    new = 16
    blanks = int((ids == tokenizer.mask_token_id).sum(-1).max()) + new
    rules = make_rules(
        blanks if steps is None else steps, special=special, order="top_prob", temperature=0.0, allow_eos=False,
        constraint=WholeCharacters.of(tokenizer),
    )  # fmt: skip
    predictor = unmask.MLMPredictor(rules.max_steps, new, tokenizer, network, rules=rules, seed=0)
    ours = predictor.predict({"input_ids": ids, "attention_mask": real.bool()})["ids"]
    theirs = model.diffusion_generate(ids, real, max_new_tokens=new, steps=steps)
    assert torch.equal(ours, theirs)
    assert set(theirs[:, -new:].flatten().tolist()) & {int(id) for id in model.config.diffusion["character_parts"]}
