"""Pure functions on tensors: how much to hide, where, with what; how to weigh, draw and choose.

Nothing here knows a tokenizer or a network, mutates its input, or draws from ambient randomness.
"""
