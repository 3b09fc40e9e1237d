"""Decoding: one loop, ``unmask()``, and the rules that are passed to it as values.

    canvas      what is given and what is blank: unconditional, prefix, infill
    rules       everything a decode is asked to do, as one frozen value
    forward     from ids to logits at the positions somebody reads
    selectors   which blanks to reveal: a score and an admission
    budget      how many to reveal at each step
    tokens      which token to put there: temperature and filters
    adjust      changes of the logits before they are scored: forbidden ids, hooks
    loop        unmask(): the loop
    observers   who is told of each step
    history     HistoryTopKPlugin: the top k of every step, on disk
    trace       which token appeared where, when and how surely; saved and replayed
    predictor   MLMPredictor: batches in, text out
    render      a trace as a page, a picture or a terminal animation
"""
