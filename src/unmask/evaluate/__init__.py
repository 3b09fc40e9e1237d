"""What a model is worth: likelihood bounds, pseudo-likelihood, accuracy, and counting models to compare with.

windows      held-out documents as rows a model can read
hidden       hide part of every window by keyed noise, measure the model there
estimate     a ratio over documents with its confidence interval
likelihood   the any-order bound; bits per byte, per token, per word
pseudo       pseudo-log-likelihood: one token hidden at a time
exact        the same bound by enumeration, for tiny rows
scoring      single texts, with what their figure leaves out
metrics      masked accuracy and entropy
counting     n-gram counts of a token store
baselines    unigram and neighbour models made of those counts
"""
