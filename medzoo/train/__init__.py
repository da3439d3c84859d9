"""Training: optimiser, step, loop, checkpoints and what is written meanwhile.

The loop knows a task only by its protocol (`init`, `loss`, `predict`,
`evaluator`), so that a new model or dataset needs no change here.
"""
