"""Network parts.

attention   one attention over flat tokens; dense, per-document and FlexAttention plans
documents   rotary attention of whole documents on a CPU, as one operator
memory      keys and values kept between calls
rotary      rotary position embedding
linear      the layer all of these are made of
encoder     pre-norm transformer blocks
running     blocks compiled, activations recomputed
heads       from hidden states to logits
projection  logits of any model, only where they are read
"""
