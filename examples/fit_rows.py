"""Train a small network on rows of ids and fill a row: no text, no config, no files."""

import torch

import unmask

special = unmask.SpecialIds(mask=11, vocab_size=12, pad=0, bos=9, eos=10)
network = unmask.RotaryTransformerMLMModel(12, 32, 2, 2, padding_idx=0, mask_idx=11)
rows = [[1 + (start + step) % 8 for step in range(10)] for start in range(64)]  # counting modulo 8

result = unmask.fit(network, rows, tokenizer=special, steps=60, batch_size=16, lr=1e-2)
print(f"loss {result.losses[0]:.2f} -> {result.losses[-1]:.2f}")

canvas = unmask.Canvas.infill(torch.tensor([[9, 3, 11, 5, 11, 11, 8, 11, 2, 3, 4, 10]]), special)
rules = unmask.make_rules(4, order="top_prob", temperature=0.0, special=special)
print(unmask.fill_canvas(network, canvas, rules, special=special, seed=0).ids[0].tolist())
