"""Writes the readers' marks of a phantom as LIDC-IDRI's XML."""

import numpy as np

from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_uids as uids
from medzoo.io import lidc_types

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<LidcReadMessage uid="{message}" xmlns="http://www.nih.gov">
<ResponseHeader>
<Version>1.8.1</Version>
<RequestingSite>phantom</RequestingSite>
<ServicingSite>phantom</ServicingSite>
<TaskDescription>Second unblinded read</TaskDescription>
<CtImageFile>phantom</CtImageFile>
<SeriesInstanceUid>{series}</SeriesInstanceUid>
<ResponseDescription>1 - Reading complete</ResponseDescription>
<StudyInstanceUID>{study}</StudyInstanceUID></ResponseHeader>
"""


def message(phantom: records.Phantom) -> str:
  """Returns the message of all four readers.

  Args:
    phantom: the scan that they read.
  """
  series = phantom.volume.series_uid
  parts = [
    _HEAD.format(
      message=uids.uid(series, 'message'),
      series=series,
      study=phantom.study_uid,
    )
  ]
  for number, reading in enumerate(phantom.readings):
    parts.append(
      '<readingSession>\n<annotationVersion>3.12</annotationVersion>\n'
      f'<servicingRadiologistID>phantom-{number}</servicingRadiologistID>\n'
    )
    parts += [_nodule(phantom, mark) for mark in reading.marks]
    first = len(reading.marks) + 1
    for i, point in enumerate(reading.small, first):
      outline = records.Outline(int(point[0]), True, point[None, :0:-1])
      parts.append(
        f'<unblindedReadNodule>\n<noduleID>Nodule {i:03d}</noduleID>\n'
        f'{_roi(phantom, outline)}</unblindedReadNodule>\n'
      )
    for i, point in enumerate(reading.others, 1):
      parts.append(
        f'<nonNodule>\n<nonNoduleID>Non-nodule {i:03d}</nonNoduleID>\n'
        f'{_image(phantom, int(point[0]))}'
        f'<locus>{_point(point[:0:-1])}</locus>\n</nonNodule>\n'
      )
    parts.append('</readingSession>\n')
  return ''.join(parts) + '</LidcReadMessage>\n'


def _nodule(phantom: records.Phantom, mark: records.Mark) -> str:
  names = lidc_types.CHARACTERISTICS
  ratings = ''.join(
    f'<{name}>{value}</{name}>\n'
    for name, value in zip(names, mark.ratings, strict=True)
  )
  rois = ''.join(_roi(phantom, outline) for outline in mark.outlines)
  return (
    '<unblindedReadNodule>\n'
    f'<noduleID>Nodule {mark.nodule + 1:03d}</noduleID>\n'
    f'<characteristics>\n{ratings}</characteristics>\n'
    f'{rois}</unblindedReadNodule>\n'
  )


def _roi(phantom: records.Phantom, outline: records.Outline) -> str:
  inclusion = 'TRUE' if outline.inclusion else 'FALSE'
  points = outline.points
  if len(points) > 1:
    # Readers' outlines end where they began.
    points = np.concatenate([points, points[:1]])
  edge = ''.join(f'<edgeMap>{_point(point)}</edgeMap>\n' for point in points)
  return (
    f'<roi>\n{_image(phantom, outline.slice)}'
    f'<inclusion>{inclusion}</inclusion>\n{edge}</roi>\n'
  )


def _image(phantom: records.Phantom, index: int) -> str:
  volume = phantom.volume
  z = volume.origin[2] + index * volume.spacing[0]
  sop = uids.image(volume.series_uid, index)
  return (
    f'<imageZposition>{z:.6f} </imageZposition>\n'
    f'<imageSOP_UID>{sop}</imageSOP_UID>\n'
  )


def _point(point: np.ndarray) -> str:
  return f'<xCoord>{point[0]}</xCoord><yCoord>{point[1]}</yCoord>'
