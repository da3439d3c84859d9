"""Words for scores of three classes of pictures and more."""

from collections.abc import Mapping, Sequence
from typing import Any

from medzoo.metrics import classification
from medzoo.report import labels


def names(classes: Sequence[str]) -> dict[str, labels.Label]:
  """Returns what the metrics of `metrics.multiclass` are called.

  Args:
    classes: their names, from class 0 on.
  """
  found = {
    'accuracy': labels.Label(
      'Accuracy', 'Share of the pictures that were called what they are.'
    ),
    'auc': labels.Label(
      'AUC',
      'Mean over the classes of the area under the ROC curve of each against '
      'all others: how often a picture of the class is given a higher '
      'probability of it than one of another class. Guessing reaches 0.5.',
    ),
    'f1': labels.Label(
      'F1',
      'Mean over the classes of the harmonic mean of precision and '
      'sensitivity.',
    ),
    'brier': labels.Label(
      'Brier score',
      'Mean square of how far probabilities are from the truth, summed over '
      'the classes, from 0 to 2; the lower the better. Saying all classes are '
      f'as likely always gives {1 - 1 / len(classes):.3g}.',
      is_share=False,
    ),
    'ece': labels.Label(
      'Calibration error',
      'Expected calibration error: how far the probabilities of the classes '
      'that pictures were called are from the share that is right, the mean '
      f'over {classification.NUM_BINS} bins of equal width; the lower the '
      'better. Chance alone makes it larger in resamples, so the interval may '
      'lie above it.',
    ),
    'confusion_matrix': labels.Label(
      'Confusion matrix',
      f'Rows: {", ".join(classes)} in truth. Columns: called so.',
      is_share=False,
    ),
  }
  for name in classes:
    found |= {
      f'sensitivity_{name}': labels.Label(
        f'Sensitivity, {name}', 'Recall: share of these that were called so.'
      ),
      f'specificity_{name}': labels.Label(
        f'Specificity, {name}', 'Share of all others that were not called so.'
      ),
      f'precision_{name}': labels.Label(
        f'Precision, {name}', 'Share of what was called so that is so.'
      ),
      f'auc_{name}': labels.Label(
        f'AUC, {name}', 'Area under the ROC curve, against all others.'
      ),
    }
  return found


def notes(point: Mapping[str, Any]) -> list[str]:
  """Returns what else a reader ought to know.

  Args:
    point: the operating point, see `train.protocols.pictures`.
  """
  if 'why' in point:
    calibrated = (
      'Probabilities are those of the logits as they are, without a '
      f'calibration: {point["why"]}.'
    )
  else:
    calibrated = (
      'Probabilities were calibrated on validation pictures: logits are '
      f'divided by the temperature {point["temperature"]:.4f} before their '
      'softmax.'
    )
  return [
    calibrated,
    'A picture is called the class of highest probability; there is no '
    'threshold.',
    'Means over classes count every class the same, however rare it is.',
    'Each baseline was calibrated in the same way.',
  ]
