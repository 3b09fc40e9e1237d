"""Classifiers: a head on any encoder, its loss, its frozen encoder, its folder for transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

import unmask as package
from tests.data.test_labelled_rows import word_pieces, words_of
from tests.models.hf_families import small_model
from unmask.data.labelled_rows import EncodedRow, LabelledRow
from unmask.text.classifier import Classifier, with_new_head
from unmask.text.classifier_training import (
    ClassifierOptions,
    HeadedEncoder,
    LabelCollator,
    class_weights,
    train_classifier,
)

SENTENCES = ["the cat sees the moon.", "a dog", "my aunt likes old trees.", "the moon sees a dog", "old trees", "a cat"]
LABELS = ["x", "y", "x", "x", "x", "z"]
AUTO = {False: AutoModelForSequenceClassification, True: AutoModelForTokenClassification}


def ours(seed=0, dropout=0.5, **sizes):
    tokenizer = package.Tokenizer.train(SENTENCES, 280)
    torch.manual_seed(seed)
    network = package.RotaryTransformerMLMModel(
        len(tokenizer), 16, 2, 2, mask_idx=tokenizer.mask_token_id, padding_idx=tokenizer.pad_token_id, rotary_emb_dim=8, max_length=32,
        dropout=dropout, **sizes,
    )  # fmt: skip
    return package.TrainedModel(network.eval(), tokenizer, Path("ours"))


def bert(seed=0, dropout=0.5):
    tokenizer = word_pieces()
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, pad_token_id=0,
        max_position_embeddings=64, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    network = package.HuggingFaceMLM(transformers.BertForMaskedLM(config).eval(), tokenizer.mask_token_id)
    return package.TrainedModel(network, tokenizer, Path("bert"))


def rows_of(per_word=False):
    if per_word:
        return [words_of(text, ["yx"["t" in word] for word in text.split()]) for text in SENTENCES]
    return [
        LabelledRow(f"r:{n}", *pair, labels=(label,))
        for n, (*pair, label) in enumerate(zip(SENTENCES, LABELS, strict=True))
    ]


def trained(encoder, per_word=False, valid=(), **options):
    chosen = ClassifierOptions(per_word, **{"steps": 4, "batch_size": 3, "lr": 0.05} | options)
    return train_classifier(encoder, rows_of(per_word), valid, chosen, device="cpu")


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("per_word", [False, True])
@pytest.mark.parametrize("build", [ours, bert])
def test_a_frozen_encoder_keeps_every_bit_and_an_unfrozen_one_is_trained(build, per_word):
    encoder = build()
    original = weights(encoder.model)
    start = weights(with_new_head(encoder, ["x", "y"] if per_word else ["x", "y", "z"], per_word, 0)[0].model)
    for freeze in (True, False):
        end = weights(trained(encoder, per_word, freeze=freeze).classifier.model)
        inside = {name for name in start if name.startswith(("model.", "bert.")) and "pooler" not in name}
        assert same({n: start[n] for n in inside}, end) == freeze
        assert not any(
            torch.equal(start[name], end[name])
            for name in start
            if name.endswith(("classifier.weight", "pooler.dense.weight"))
        )
    assert same(original, weights(encoder.model))


@pytest.mark.parametrize("build", [ours, bert])
def test_a_frozen_encoder_has_no_dropout(build):
    classifier, new = with_new_head(build(), ["x", "y"], True, 0)
    ids = torch.arange(6, 12)[None]
    for freeze in (True, False):
        network = HeadedEncoder(classifier, new if freeze else None).train()
        states = [network.model.base_model(ids).last_hidden_state for _ in range(2)]
        assert torch.equal(*states) == freeze and network.model.training
        assert network.eval().train().model.base_model.training != freeze


def test_the_new_weights_depend_on_the_seed_alone():
    heads = []
    for encoder_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(encoder_seed + 7)
        classifier, new = with_new_head(ours(encoder_seed), ["x", "y"], False, seed)
        heads.append({name: weights(classifier.model)[name] for name in new})
    assert set(heads[0]) == {"classifier.weight", "classifier.bias", "norm.weight", "norm.bias"}
    assert same(heads[0], heads[1]) and not same(heads[0], heads[2])


def test_the_same_seed_gives_the_same_weights():
    encoder, state = ours(), torch.random.get_rng_state()
    first, again, other = (trained(encoder, seed=seed).classifier.model for seed in (0, 0, 1))
    assert same(weights(first), weights(again)) and not same(weights(first), weights(other))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("per_word", [False, True])
def test_the_loss_is_that_of_a_loop_in_value_and_gradient(per_word, balanced):
    classifier, _ = with_new_head(ours(dropout=0.0), ["x", "y"] if per_word else ["x", "y", "z"], per_word, 0)
    rows, names = rows_of(per_word), classifier.labels
    encoded = classifier.encode(rows)
    numbers = [np.array([names.index(label) for label in row.labels]) for row in rows]
    counts = np.bincount(np.concatenate(numbers))
    given = class_weights(counts) if balanced else None
    batch = LabelCollator(classifier, given)([{"row": r, "labels": n} for r, n in zip(encoded, numbers, strict=True)])
    loss = package.MLMLoss(weighting="inverse_p" if balanced else "flat")
    network = HeadedEncoder(classifier, None).eval()
    found = loss(batch, network)["loss"]
    found.backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    network.zero_grad()
    total, n = 0.0, counts.sum()
    for row, labels in zip(encoded, numbers, strict=True):
        logits = classifier.model(torch.from_numpy(row.ids)[None]).logits[0]
        for head, label in zip(row.heads, labels, strict=True):
            weight = n / (len(counts) * counts[label]) if balanced else 1.0
            total = total + weight * cross_entropy((logits[head] if per_word else logits)[None], torch.tensor([label]))
    (total / n).backward()
    assert torch.allclose(found, total / n, rtol=1e-5)
    for name, p in network.named_parameters():
        if p.grad is not None:
            assert torch.allclose(gradients[name], p.grad, atol=1e-5), name


def test_balanced_weights_have_mean_one_and_change_the_training():
    counts = np.array([7, 2, 1])
    assert class_weights(counts).tolist() == pytest.approx([10 / (3 * c) for c in counts])
    assert float(class_weights(counts) @ torch.from_numpy(counts).float()) == pytest.approx(10)
    plain, balanced = (trained(ours(), balanced=b) for b in (False, True))
    assert not same(weights(plain.classifier.model), weights(balanced.classifier.model))


@pytest.mark.parametrize("per_word", [False, True])
@pytest.mark.parametrize("kind", ["ours", "bert", "fnet", "convbert"])
def test_logits_depend_neither_on_the_batch_nor_on_its_padding(kind, per_word):
    if kind in ("ours", "bert"):
        encoder = (ours if kind == "ours" else bert)()
    else:  # Fourier transforms and convolutions mix padding into tokens
        encoder = package.TrainedModel(package.HuggingFaceMLM(small_model(kind)), word_pieces(), Path(kind))
    classifier, _ = with_new_head(encoder, ["x", "y", "z"], per_word, 0)
    draw = np.random.default_rng(0)
    rows = [EncodedRow(draw.integers(7, 50, size=n), np.arange(n if per_word else 1)) for n in (3, 9, 5, 9, 4)]
    alone = [classifier.logits([row])[0] for row in rows]
    for size in (1, 2, 5):
        for expected, found in zip(alone, classifier.logits(rows, size), strict=True):
            assert torch.allclose(expected, found, atol=1e-5)
    assert classifier._mixes_padding == (kind in ("fnet", "convbert"))
    if kind == "ours":
        ids = torch.from_numpy(rows[0].ids)
        left, real = torch.cat([ids.new_zeros(4), ids])[None], torch.tensor([[0] * 4 + [1] * 3])
        with torch.no_grad():
            logits = classifier.model.eval()(left, real).logits[0]
        assert torch.allclose(logits[4:] if per_word else logits[None], alone[0], atol=1e-5)


@pytest.mark.parametrize("per_word", [False, True])
@pytest.mark.parametrize("build", [ours, bert])
def test_the_folder_loads_in_transformers_with_equal_logits(build, per_word, tmp_path):
    done = trained(build(), per_word, valid=rows_of(per_word))
    done.classifier.save(tmp_path / "made", {"text": "text", **done.facts})
    loaded, facts = Classifier.load(tmp_path / "made", "cpu")
    model, tokenizer = (
        AUTO[per_word].from_pretrained(tmp_path / "made").eval(),
        AutoTokenizer.from_pretrained(tmp_path / "made"),
    )
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    encoded = loaded.encode(rows_of(per_word))
    for number, (row, logits) in enumerate(zip(encoded, loaded.logits(encoded, 2), strict=True)):
        assert row.ids.tolist() == batch["input_ids"][number][batch["attention_mask"][number].bool()].tolist()
        expected = theirs[number][torch.from_numpy(row.heads)] if per_word else theirs[number][None]
        assert torch.allclose(logits, expected, atol=1e-5)
    names = ("x", "y") if per_word else ("x", "y", "z")
    assert loaded.labels == names and model.config.label2id == {name: n for n, name in enumerate(names)}
    assert facts["valid"]["rows_also_in_training"] == len(SENTENCES) and facts["labels"]["y"] > 0
    assert done.scores.as_dict()["confusion"] == facts["valid"]["confusion"]
    if build is bert:
        assert type(model).__name__.startswith("BertFor") and encoded[0].ids[0] == 2
    with pytest.raises(OSError):
        done.classifier.save(tmp_path / "made", {})


@pytest.mark.slow
@pytest.mark.parametrize("per_word", [False, True])
def test_the_folder_alone_is_enough(per_word, tmp_path, without_unmask):
    done = trained(ours(), per_word)
    done.classifier.save(tmp_path / "made", {"text": "text"})
    kind = AUTO[per_word].__name__
    code = f"""
import json, torch, transformers
kept = {{"trust_remote_code": True}}
model = transformers.{kind}.from_pretrained("made", **kept).eval()
batch = transformers.AutoTokenizer.from_pretrained("made", **kept)({SENTENCES[0]!r}, return_tensors="pt")
print(json.dumps(model(**batch).logits[0].tolist()))"""
    logits = torch.tensor(without_unmask(code, tmp_path))
    row = done.classifier.encode(rows_of(per_word)[:1])
    expected = done.classifier.logits(row)[0]
    assert torch.allclose(logits[row[0].heads] if per_word else logits[None], expected, atol=1e-5)


def test_an_encoder_without_a_class_for_labels_is_refused():
    other = package.TrainedModel(package.HuggingFaceMLM(small_model("neomme")), word_pieces(), Path("some/neomme"))
    with pytest.raises(ValueError, match=r"some/neomme holds a NeoMMEForMaskedLM.*transformers\.Trainer"):
        with_new_head(other, ["x", "y"], False, 0)
    one_sided = ours()
    one_sided.model.shift = True
    with pytest.raises(ValueError, match="autoregressive"):
        with_new_head(one_sided, ["x", "y"], False, 0)


def test_options_and_folders_that_make_no_sense_are_refused(tmp_path):
    for wrong in ({"epochs": 0}, {"steps": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="must be above zero"):
            ClassifierOptions(**wrong)
    with pytest.raises(ValueError, match="unmask classify train"):
        Classifier.load(tmp_path)
    with pytest.raises(ValueError, match="'z' does not occur"):
        train_classifier(ours(), rows_of()[:4], rows_of()[5:], ClassifierOptions(), device="cpu")
