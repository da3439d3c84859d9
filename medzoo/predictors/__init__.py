"""Whole cases in, findings out.

Models, ops and data meet here for one scan or picture at a time: search region,
tiling, non-maximum suppression in millimetres, refinement. The hand-written
baselines, predictors without variables, stand beside the trained ones.
"""
