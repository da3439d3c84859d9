"""What a newcomer needs to read a table of scores: names, meanings, units."""

import dataclasses
from collections.abc import Mapping

_RATES = {
  '0.125': '1/8',
  '0.25': '1/4',
  '0.5': '1/2',
  '1': '1',
  '2': '2',
  '4': '4',
  '8': '8',
}


@dataclasses.dataclass(frozen=True)
class Label:
  """How a metric is shown.

  Attributes:
    name: in a few words.
    meaning: one sentence; '' where the name says it.
    is_share: true for values in [0, 1], which fit on one axis.
  """

  name: str
  meaning: str = ''
  is_share: bool = True


_LABELS = {
  'cpm': Label(
    'CPM',
    'Mean of the sensitivities at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false'
    ' positives per scan, by the official LUNA16 rules.',
  ),
  'cpm_nearest': Label(
    'CPM, nearest point',
    "The same, read at the curve's nearest points instead of between them, as"
    ' the LUNA16 leaderboard did.',
  ),
  'candidate_sensitivity': Label(
    'Candidate sensitivity',
    'Share of the nodules that the first stage proposes at all; the second'
    ' stage cannot find more.',
  ),
  'candidates_per_scan': Label(
    'Candidates per scan',
    'How many places the first stage proposes in a scan.',
    is_share=False,
  ),
  'recall': Label(
    'Recall at the threshold',
    'Share of the lesions with a detection no farther away than their own'
    ' diameter, at the threshold chosen on the validation split.',
  ),
  'ap50': Label(
    'AP50',
    'Average precision of the boxes on all slices, by the rules of COCO; a box'
    ' is right where its intersection over union with a true one is 0.5 or'
    ' more.',
  ),
  'precision': Label(
    'Precision at the threshold',
    'Share of the boxes that are right, at the threshold of the best F1 on the'
    ' validation split.',
  ),
  'accuracy': Label(
    'Accuracy of slices',
    'Share of the slices rightly called to hold a finding or none. Most hold'
    ' none, so that finding nothing ever is called accurate too.',
  ),
  'froc_mean': Label(
    'Mean FROC of lesions',
    'Mean of the sensitivities at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false'
    ' positives per scan of boxes linked to lesions, by the official LUNA16'
    ' rules.',
  ),
  'froc_mean_boxes': Label(
    'Mean FROC of lesion boxes',
    'The same by the rule of lidc_nodule_detection: a lesion is found by one'
    ' that shares slices and more than half of the smaller area.',
  ),
  'fps_per_scan': Label(
    'False positives per scan',
    'Detections in a scan that are near no lesion, at the same threshold.',
    is_share=False,
  ),
} | {
  f'sensitivity_at_{rate}': Label(f'Sensitivity at {text} FP per scan')
  for rate, text in _RATES.items()
}

# Words of the code that reading letter by letter would spoil.
_NAMES = {
  'laplacian_of_gaussian': 'Laplacian of Gaussian',
  'majority': 'Majority class',
  'crop_size': 'Size and aspect',
  'crop_place': 'Size, aspect and place',
  'hog_ridge': 'HOG, colours and a thumbnail',
  'params': 'Parameters',
  'jax': 'JAX',
  'peak_memory_mb': 'Peak memory, MB',
}


def of(metric: str, own: Mapping[str, Label] | None = None) -> Label:
  """Returns a metric's label; one without a text is shown by its name.

  Args:
    metric: as it is called in the results.
    own: labels that an experiment has for itself, which go first.
  """
  if own and metric in own:
    return own[metric]
  if metric in _LABELS:
    return _LABELS[metric]
  return Label(plain(metric), is_share=False)


def plain(name: str) -> str:
  """Turns a name of the code into words: 'train_seconds' to 'Train seconds'."""
  if name in _NAMES:
    return _NAMES[name]
  words = name.replace('_', ' ').strip()
  return words[:1].upper() + words[1:]


def number(value: float | int | str | bool | None) -> str:
  """Writes a value as a table shows it."""
  if value is None:
    return '–'
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, str):
    return value
  if isinstance(value, int) or float(value).is_integer() and abs(value) >= 1e3:
    return f'{int(value):,}'
  size = abs(value)
  if size >= 100:
    return f'{value:,.0f}'
  if size >= 10:
    return f'{value:.1f}'
  if size >= 1e-3 or size == 0:
    return f'{value:.3f}'
  return f'{value:.2g}'


def duration(seconds: float) -> str:
  """Writes seconds so that a person can picture them."""
  if seconds < 10:
    return f'{seconds:.2f} s'
  whole = round(seconds)
  if whole < 60:
    return f'{whole} s'
  minutes, rest = divmod(whole, 60)
  if minutes < 60:
    return f'{minutes} min {rest} s'
  hours, minutes = divmod(minutes, 60)
  return f'{hours} h {minutes} min'
