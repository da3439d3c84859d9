"""Turns what a network says of pictures into probabilities one can believe.

A network's log-odds rank pictures well and are mostly too sure. Two numbers
fitted on validation pictures mend the second without touching the first
(Platt, 'Probabilistic outputs for support vector machines', 1999). Of three
classes and more it is one number, the temperature (Guo et al., 'On calibration
of modern neural networks', 2017).
"""

import dataclasses

import numpy as np
from scipy import optimize
from scipy import special


@dataclasses.dataclass(frozen=True)
class Calibration:
  """How log-odds become probabilities.

  Attributes:
    scale: factor of the log-odds, above 0, so that their order stays.
    shift: added to them then.
    why: the reason why nothing could be fitted, and log-odds are taken as they
      are; '' where it could.
  """

  scale: float = 1.0
  shift: float = 0.0
  why: str = ''


def platt(positive: np.ndarray, logits: np.ndarray) -> Calibration:
  """Fits scale and shift by maximum likelihood.

  As in Platt's paper a positive is given the target (p + 1) / (p + 2) and a
  negative 1 / (n + 2), where p and n are their numbers. This is what keeps the
  fit finite where the classes do not overlap.

  Args:
    positive: (n,) bool, the class of each validation picture.
    logits: (n,) log-odds that it is positive, finite.

  Returns:
    The identity where one class is missing, where all log-odds are the same,
    or where they do not rise with the share of positives, as their order would
    be lost or turned round.
  """
  positive = np.asarray(positive, bool)
  logits = np.asarray(logits, float)
  num_positive = int(positive.sum())
  num_negative = len(positive) - num_positive
  if not num_positive or not num_negative:
    return Calibration(why='validation has one class only')
  middle, spread = logits.mean(), logits.std()
  if spread <= 1e-9 * max(abs(middle), 1e-9):
    return Calibration(why='all log-odds of validation are the same')
  targets = np.where(
    positive,
    (num_positive + 1) / (num_positive + 2),
    1 / (num_negative + 2),
  )
  steps = (logits - middle) / spread
  found = optimize.minimize(
    _loss, np.zeros(2), (steps, targets), 'BFGS', jac=True
  )
  scale = found.x[0] / spread
  if scale <= 0:
    return Calibration(why='log-odds of validation do not rise with the class')
  return Calibration(float(scale), float(found.x[1] - scale * middle))


@dataclasses.dataclass(frozen=True)
class Temperature:
  """How the logits of three classes and more become probabilities.

  Attributes:
    temperature: what logits are divided by, above 0, before their softmax.
    why: the reason why nothing could be fitted, and logits are taken as they
      are; '' where it could.
  """

  temperature: float = 1.0
  why: str = ''


def temperature(labels: np.ndarray, logits: np.ndarray) -> Temperature:
  """Fits the temperature by maximum likelihood.

  Targets are smoothed as in `platt`, which keeps the fit finite where classes
  do not overlap: (m + 1) / (m + k) for the class of a picture and 1 / (m + k)
  for each other one, with m validation pictures of that class and k classes.

  Args:
    labels: (n,) int, the class of each validation picture.
    logits: (n, k), finite.

  Returns:
    The identity where there is one class only, where all pictures have the
    same logits, or where these do not rise with the class.
  """
  labels, logits = np.asarray(labels), np.asarray(logits, float)
  number = logits.shape[1]
  counts = np.bincount(labels, minlength=number)
  if (counts > 0).sum() < 2:
    return Temperature(why='validation has one class only')
  steps = logits - logits.mean(axis=1, keepdims=True)
  spread = steps.std()
  if np.ptp(steps, axis=0).max() <= 1e-9 * max(spread, 1e-9):
    return Temperature(why='all logits of validation are the same')
  steps /= spread
  size = counts[labels, None]
  targets = (size * np.eye(number)[labels] + 1) / (size + number)

  def slope(scale: float) -> float:
    """Returns how fast the mean cross-entropy grows with 1 / temperature."""
    excess = special.softmax(scale * steps, axis=1) - targets
    return float((excess * steps).sum(axis=1).mean())

  if slope(0.0) >= 0:
    return Temperature(why='logits of validation do not rise with the class')
  high = 1.0
  while slope(high) < 0:
    high *= 2
  # The cross-entropy is convex in the scale.
  scale = optimize.brentq(slope, 0.0, high, xtol=1e-12, rtol=1e-12)
  return Temperature(float(spread / scale))


def probability(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
  """Returns the probability of class 1, of the shape of the log-odds."""
  logits = np.asarray(logits, float)
  return special.expit(calibration.scale * logits + calibration.shift)


def _loss(
  parameters: np.ndarray, steps: np.ndarray, targets: np.ndarray
) -> tuple[float, np.ndarray]:
  """Returns the mean cross-entropy and its gradient."""
  scale, shift = parameters
  logits = scale * steps + shift
  loss = np.logaddexp(0, logits) - targets * logits
  slopes = special.expit(logits) - targets
  return loss.mean(), np.array([(slopes * steps).mean(), slopes.mean()])
