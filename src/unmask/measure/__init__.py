"""Measurement of training steps: beside a peer, and beside the machine's own matrix products.

turns         contestants take turns in one process; medians, and ratios with their spread
flops         counted model FLOPs of a step
machine       description of the machine, and its matrix-product rate at the model's shapes
work          batches shared by all contestants
step          one complete training step: ours, and Hugging Face's BERT
memory        peak memory of a fresh process
report_table  figures beside their targets
quick         the short comparison of `unmask bench`
"""
