"""From logits to tokens: logits processors, constraints and samplers."""
