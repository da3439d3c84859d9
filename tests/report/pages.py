"""What the tests of this folder read pages with, and an example of results."""

import html.parser
import re


def entry(value, low, high):
  return {'value': value, 'low': low, 'high': high, 'n': 20}


def results():
  return {
    'experiment': 'nodule3d',
    'variant': 'luna16',
    'finished': True,
    'seed': 0,
    'main_metric': 'cpm',
    'grouped_by': 'patients',
    'dataset': {
      'name': 'luna16',
      'version': '1.0.0',
      'split': 'subset9',
      'examples': 88,
      'groups': 87,
      'synthetic': False,
    },
    'metrics': {
      'sensitivity_at_0.125': entry(0.6, 0.5, 0.7),
      'cpm': entry(0.8391, 0.78, 0.89),
      'candidates_per_scan': entry(57.25, 50, 61),
    },
    'baselines': {'laplacian_of_gaussian': {'cpm': entry(0.25, 0.2, 0.3)}},
    'paired_differences': {
      'cpm - laplacian_of_gaussian': entry(0.5891, 0.5, 0.65)
    },
    'ablations': {},
    'folds': [],
    'threshold': 0.4127,
    'stages': [
      {'name': 'screening', 'steps': 1500, 'params': 2364000, 'seconds': 75.4}
    ],
    'timing': {'train_seconds': 7500.0, 'seconds_per_case': 3.2},
    'peak_memory_mb': {'train': 2301},
    'device': 'cpu x1',
    'versions': {'medzoo': '0.1.0', 'jax': '0.10.1'},
    'repairs': {'duplicate_slices': 3},
    'skipped': [
      {'series': '1.2.3.4', 'reason': 'gantry_tilt'},
      {'series': '1.2.3.5', 'reason': 'gantry_tilt'},
    ],
  }


class Checker(html.parser.HTMLParser):
  """Collects text, what is linked to, and whether tags are balanced."""

  void = ('meta', 'img', 'br', 'input')

  def __init__(self, text):
    super().__init__()
    self.stack, self.links, self.words = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    if tag not in self.void:
      self.stack.append(tag)
    self.links += [v for k, v in attrs if k in ('src', 'href', 'data')]

  def handle_endtag(self, tag):
    assert self.stack.pop() == tag, tag

  def handle_data(self, data):
    self.words.append(data)

  @property
  def text(self):
    return re.sub(r'\s+', ' ', ' '.join(self.words))
