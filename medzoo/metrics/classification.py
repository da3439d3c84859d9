"""Scores of yes-or-no classifiers."""

import numpy as np
from scipy import stats


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
  """Returns the area under the ROC curve, NaN where a class is missing.

  It is the probability that a positive scores above a negative, ties counting
  half: the Mann-Whitney U statistic over the number of pairs.

  Args:
    positive: (n,) bool.
    scores: (n,) higher is surer.
  """
  positive = np.asarray(positive, bool)
  num_positive = int(positive.sum())
  num_negative = len(positive) - num_positive
  if not num_positive or not num_negative:
    return float('nan')
  ranks = stats.rankdata(scores)[positive].sum()
  u = ranks - num_positive * (num_positive + 1) / 2
  return float(u / (num_positive * num_negative))
