"""Decoding: one loop, ``fill_canvas()``, with rules as values.

canvas          given tokens and positions to fill: unconditional, prefix, infill
rules           all choices of a decode in one frozen value; each field is an independent axis:
  orders/         which positions are unmasked: scores, commit rules, critics, grid orders
  budget          how many per step
  block_schedule  which positions may be unmasked yet: all, or block by block
  remasking       which unmasked tokens are masked again
  logits/         processors, constraints (automata, regular expressions) and the token sampler
  forwards/       how the network is run: plain, guided, cached, compiled, self-conditioned
reads           what a part reads: logits, probabilities, a confidence
families        the registries of named parts; ``registry`` is their class
named           make_rules(): rules from names and numbers
view            the state of one step, as rules receive it
loop            fill_canvas(): the loop
lengths         fill_any_length(): a blank of unknown length
observers/      callbacks: HistoryTopKPlugin, Trace, alternatives
given_rows      validation of a predictor's batch
predictor       MLMPredictor: batches in, text out
reach           networks on devices without float64
render/         a trace as a page, a picture or a terminal animation
"""
