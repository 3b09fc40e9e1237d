"""MaskGIT-style training and generation in ten lines, on the parts of all other floors.

wrapper       NonAutoregressiveWrapper: a network, how it is trained, how it generates
masking       what is hidden of a row: a scheduled count, and what stands there instead
conditioning  what is added to embeddings: the last hidden states, the places of a grid
critic        a judge of tokens, trained on the network's own guesses
objective     the wrapper as the training loop sees it
"""
