"""Evaluation on held-out data: likelihood bounds, pseudo-likelihood, accuracy, and count-based baselines.

windows        held-out documents as rows for a model
hidden         masking of every window by keyed noise, and measurement at masked tokens
estimate       a ratio over documents with its confidence interval
likelihood     the any-order bound; bits per byte, per token, per word
pseudo         pseudo-log-likelihood in its published forms
exact          the bound and the any-order likelihood by enumeration, for short rows
suitability    which estimators suit a network
text_rows      texts, and spans in context, as rows to score
scoring        scores of single texts
minimal_pairs  accuracy on pairs of sentences
metrics        accuracy and entropy at masked tokens
noise_curve    loss and accuracy at several noise levels
remarks        sentences and cells of reports
by_class       accuracy and bits by token class
trace_classes  token classes of instruction traces
counting       n-gram counts of a token store
baselines      unigram and neighbour models from these counts
"""
