"""Network parts.

attention            attention over flat tokens; dense, per-document and FlexAttention plans
document_attention   rotary attention of documents on a CPU, as one operator
kv_cache             cached keys and values
rotary               rotary position embedding
linear               ``nn.Linear`` with oneDNN products
encoder              pre-norm transformer blocks
execution            compiled blocks, activation checkpointing
gather_plan          selection of the encoder outputs that are read
heads                from hidden states to logits
projection           logits of any model, only where they are read
vocabulary           check of token ids
modes                evaluation mode
"""
