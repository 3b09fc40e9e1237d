"""Network parts.

    attention   one attention over flat tokens; dense, per-document and FlexAttention plans
    memory      keys and values kept between calls
    rotary      rotary position embedding
    linear      the layer all of these are made of
    encoder     pre-norm transformer blocks
    heads       from hidden states to logits
    projection  logits of any model, only where they are read
"""
