"""An exported encoder is fine-tuned like any other: by hand, by the Trainer, and with LoRA where those libraries are installed."""

import random

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def sentences(count, seed):
    """Who sees whom: label 1 if "the cat" comes first. Both orders hold the same words, so their counts say nothing."""
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        pair = ["the cat", rng.choice(["a dog", "my aunt"])]
        label = rng.randrange(2)
        first, second = pair if label else pair[::-1]
        texts.append(f"{first} {rng.choice(['sees', 'finds', 'likes'])} {second}.")
        labels.append(label)
    return texts, torch.tensor(labels)


def word_counts(texts, words):
    return torch.tensor([[text.replace(".", "").split().count(word) for word in words] for text in texts]).float()


def accuracy(logits, labels):
    return float((logits.argmax(-1) == labels).float().mean())


@pytest.fixture(scope="module")
def data(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    (texts, labels), (held_texts, held_labels) = sentences(64, 0), sentences(64, 1)
    train, held = (tokenizer(part, padding=True, return_tensors="pt") for part in (texts, held_texts))
    return texts, held_texts, train, held, labels, held_labels


def bag_of_words(data):
    """Validation accuracy of logistic regression on word counts."""
    texts, held_texts, _, _, labels, held_labels = data
    words = sorted({word for text in texts for word in text.replace(".", "").split()})
    x, weight = word_counts(texts, words), torch.zeros(len(words), 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=50)

    def loss():
        optimiser.zero_grad()
        value = cross_entropy(x @ weight, labels) + 1e-3 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return accuracy(word_counts(held_texts, words) @ weight, held_labels)


def test_a_plain_loop_beats_a_bag_of_words(exported, data):
    *_, train, held, labels, held_labels = data
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(exported, num_labels=2).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        model(**train, labels=labels).loss.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        ours = accuracy(model(**held).logits, held_labels)
    floor = bag_of_words(data)
    assert floor < 0.7 < 0.95 < ours, (floor, ours)


def test_the_trainer_beats_a_bag_of_words(exported, data, tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    *_, train, held, labels, held_labels = data
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(exported, num_labels=2)
    rows = [{**{name: part[i] for name, part in train.items()}, "labels": labels[i]} for i in range(len(labels))]
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=15, per_device_train_batch_size=16, learning_rate=3e-3, report_to=[], save_strategy="epoch",
        save_total_limit=1, use_cpu=True, disable_tqdm=True, seed=0,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows).train()
    with torch.no_grad():
        assert accuracy(model.eval()(**held).logits, held_labels) > max(0.95, bag_of_words(data))


def test_lora_trains_few_weights_and_changes_the_logits(exported, data):
    peft = pytest.importorskip("peft")
    *_, train, _, labels, _ = data
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(exported, num_labels=2)
    before = base(**train).logits.detach()
    model = peft.get_peft_model(
        base, peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["qkv", "out", "up", "down"])
    )
    trainable, total = model.get_nb_trainable_parameters()
    assert trainable < total / 2
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = model(**train, labels=labels).loss
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] and not torch.allclose(model(**train).logits, before)
    merged = model.merge_and_unload()
    assert torch.allclose(merged(**train).logits, model(**train).logits, atol=1e-4)
