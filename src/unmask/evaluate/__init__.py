"""Evaluation on held-out data: likelihood bounds, pseudo-likelihood, accuracy, and count-based baselines.

windows        held-out documents as rows for a model
hidden         masking of every window by keyed noise, and measurement at masked tokens
estimate       a ratio over documents with its confidence interval
likelihood     the any-order bound; bits per byte, per token, per word
pseudo         pseudo-log-likelihood: one masked token at a time
exact          the bound by enumeration, for short rows
scoring        scores of single texts
metrics        accuracy and entropy at masked tokens
by_class       accuracy and bits by token class
trace_classes  token classes of instruction traces
counting       n-gram counts of a token store
baselines      unigram and neighbour models from these counts
"""
