"""The loader's benchmark measures the loader of training."""

import torch
from benchmarks.loader import EOS, batches, synthetic_store

from unmask.data.store.token_store import TokenStore


def test_the_store_is_a_store(tmp_path):
    store = synthetic_store(tmp_path, 20_000)
    assert TokenStore.open(tmp_path, verify=True).n_tokens == store.n_tokens >= 20_000
    assert all(int(store.document(i)[-1]) == EOS for i in range(len(store)))


def test_batches_are_training_batches(tmp_path):
    store = synthetic_store(tmp_path, 20_000)
    first, second = (batch for batch, _ in zip(batches(store, 3, 64), range(2), strict=False))
    assert first["input_ids"].shape == (3, 64) and not torch.equal(first["target_ids"], second["target_ids"])
    assert 0 < first["noise_mask"].double().mean() < 1
