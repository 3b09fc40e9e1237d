"""Measuring: what a step costs here, beside a peer and beside the machine's own matrix products.

turns    contestants take turns in one process; medians, and ratios with their spread
flops    counted model FLOPs of a step
machine  what it is, and how fast it multiplies matrices at the model's shapes
work     batches that every contestant gets alike
step     one whole training step; ours, and Hugging Face's BERT
memory   peak memory of a process of its own
table    figures beside their targets
quick    the short comparison of `unmask bench`
"""
