"""MaskGIT-style training and generation for rows of one length.

wrapper       NonAutoregressiveWrapper: a network, its training and its generation
wrapper_loss  the wrapper's loss as the objective of the training loop
wrapper_files weights of a wrapper in checkpoint folders
masking       training corruption: a scheduled count of masked tokens
schedules     mask-rate schedules from names, numbers and functions in either direction
conditioning  additions to token embeddings: previous hidden states, grid positions
critic        a token critic, trained on the network's own samples
generation    the decoding rules of generate()
"""
