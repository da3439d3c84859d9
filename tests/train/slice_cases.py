"""Three small scans with boxes, what was found in them, and pictures.

Slices are 2 mm apart, pixels 1 mm wide. Of the counting boxes three of four
are found; by falling score all found are: hit, hit, ignored, false, hit,
false. The surest of all is suppressed.
"""

import dataclasses

import numpy as np

from medzoo import types

HIT = np.array([10.0, 10, 20, 20])
IGNORED = np.array([30.0, 30, 40, 40])
FOUND = np.array([50.0, 50, 60, 60])
MISSED = np.array([0.0, 0, 8, 8])
FALSE = np.array([70.0, 70, 80, 80])


class Cases(list):
  """Cases as `sources.Cases` gives them."""

  @property
  def keys(self):
    return [case.volume.series_uid for case in self]

  @property
  def groups(self):
    return [case.group for case in self]

  @property
  def findings(self):
    return [(case.lesions, case.excluded) for case in self]

  @property
  def boxes(self):
    return [case.boxes for case in self]

  @property
  def grids(self):
    return [case.volume.grid for case in self]

  def subset(self, indices):
    return Cases(self[i] for i in indices)


def boxes(*rows):
  """Truth from rows of slice, corners, ignored, finding."""
  return types.Boxes(
    slices=np.array([row[0] for row in rows], np.int32),
    corners=np.array([row[1] for row in rows], float).reshape(-1, 4),
    labels=np.ones(len(rows), np.int32),
    ignored=np.array([row[2] for row in rows], bool),
    findings=np.array([row[3] for row in rows], np.int32),
  )


def found(*rows):
  """Detections from rows of slice, corners, score, link, suppressed."""
  return types.BoxDetections(
    slices=np.array([row[0] for row in rows], np.int32),
    corners=np.array([row[1] for row in rows], float).reshape(-1, 4),
    scores=np.array([row[2] for row in rows], float),
    labels=np.ones(len(rows), np.int32),
    steps=np.zeros(len(rows), np.int32),
    suppressed=np.array([row[4] for row in rows], bool),
    links=np.array([row[3] for row in rows], np.int32),
  )


def findings(*centers):
  """Spheres of 10 mm at index (z, y, x)."""
  world = np.array(centers, float).reshape(-1, 3)[:, ::-1] * (1, 1, 2)
  return types.Findings(
    world, np.full(len(world), 10.0), np.ones(len(world), np.int32)
  )


def lesions(*rows):
  """Detections from rows of centre, index (z, y, x), and score."""
  spheres = findings(*(row[0] for row in rows))
  scores = np.array([row[1] for row in rows], float)
  return types.Detections(
    spheres.centers, spheres.diameters, scores, spheres.labels
  )


def _case(name, group, length, lesions, excluded, boxes):
  volume = types.Volume(
    np.zeros((length, 100, 100), np.int16), (2.0, 1.0, 1.0), series_uid=name
  )
  return types.Case(volume, group, lesions, excluded, boxes)


def scans():
  """Three scans of three patients."""
  return Cases(
    [
      _case(
        'a',
        'p',
        10,
        findings((3.5, 14.5, 14.5)),
        findings((7, 34.5, 34.5)),
        boxes((7, IGNORED, True, 0), (3, HIT, False, 1), (4, HIT, False, 1)),
      ),
      _case(
        'b',
        'q',
        10,
        findings((5, 54.5, 54.5), (6, 3.5, 3.5)),
        findings(),
        boxes((5, FOUND, False, 0), (6, MISSED, False, 1)),
      ),
      _case('c', 'r', 5, findings(), findings(), boxes()),
    ]
  )


def predictions():
  """What was found in the scans, by name and case."""
  return {
    'a': {
      'boxes': found(
        (9, FALSE, 0.95, -1, True),
        (3, HIT, 0.9, 0, False),
        (4, HIT, 0.8, 0, False),
        (7, IGNORED, 0.7, 1, False),
        (1, FALSE, 0.6, 2, False),
      ),
      'detections': lesions(
        ((3.5, 14.5, 14.5), 0.85), ((7, 34.5, 34.5), 0.7), ((1, 75, 75), 0.6)
      ),
    },
    'b': {
      'boxes': found((5, FOUND, 0.5, 0, False), (2, FALSE, 0.4, 1, False)),
      'detections': lesions(((5, 54.5, 54.5), 0.5), ((2, 75, 75), 0.4)),
    },
    'c': {'boxes': found(), 'detections': lesions()},
  }


def pictures(images):
  """Pictures and what was found in them, from `random_boxes.images`.

  Two pictures are of one patient each.
  """
  cases, outputs = Cases(), {}
  for i, (one, there) in enumerate(zip(*images, strict=True)):
    volume = types.Volume(
      np.zeros((1, 32, 32, 3), np.uint8), (None, 1.0, 1.0), series_uid=f'i{i}'
    )
    truth = types.Boxes(
      slices=np.zeros(len(there.labels), np.int32),
      corners=there.boxes,
      labels=there.labels,
      ignored=there.ignored | there.crowd,
      findings=np.arange(len(there.labels)),
    )
    cases.append(
      types.Case(volume, f'p{i // 2}', findings(), findings(), truth)
    )
    rows = [(0, box, 0, -1, False) for box in one.boxes]
    marks = dataclasses.replace(
      found(*rows), scores=one.scores, labels=one.labels
    )
    outputs[f'i{i}'] = {'boxes': marks, 'detections': lesions()}
  return cases, outputs
