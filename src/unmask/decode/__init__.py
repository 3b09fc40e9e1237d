"""Decoding: one loop, ``fill_canvas()``, and the rules that are passed to it as values.

canvas       what is given and what is blank: unconditional, prefix, infill
rules        everything a decode is asked to do, as one frozen value; each field is an axis:
selectors      which blanks to reveal: scores, admissions, and the temperature between them
critics        networks that judge drawn tokens
budget         how many at each step
windows        which blanks may be revealed yet: everywhere, or block by block
revision       which revealed tokens are hidden again: remasking
tokens         which token to put there: temperature and filters
constraints    which tokens may stand together: finite automata
regex          the automaton of a regular expression
adjust         changes of the logits before they are scored: forbidden ids, penalties, hooks
forward        from ids to logits at the positions somebody reads: plain, guided
conditioning a forward that hands each evaluation what the one before made of the row: self-conditioning
grid         orders of a two-dimensional canvas
cache        a forward that remembers keys and values: faster, approximate
block_cache  the same for block-causal networks: exact
named        the same from words and numbers
view         what a rule sees of a step
loop         fill_canvas(): the loop
lengths      a blank of unknown length: all lengths in one batch, the likeliest kept
observers    who is told of each step
history      HistoryTopKPlugin: the top k of every step, on disk
trace        which token appeared where, when and how surely; saved and replayed
batches      what a caller hands to a predictor, checked
predictor    MLMPredictor: batches in, text out
render       a trace as a page, a picture or a terminal animation
"""
