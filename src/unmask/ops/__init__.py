"""Pure functions on tensors: corruption, loss weights, sampling and selection.

They depend on no tokenizer and no network, do not modify their input, and use no global random state unless a generator
is left out.
"""
