"""From logits to tokens: processors, samplers and constraints."""
