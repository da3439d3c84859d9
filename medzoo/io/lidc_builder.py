"""Turns the elements of a LIDC message into records while they pass by."""

import math
from collections.abc import Mapping
from xml.parsers import expat

import numpy as np

from medzoo.io import lidc_types

# The deepest element of a published message is the sixth.
_MAX_DEPTH = 16
# Rows and columns of a DICOM image are numbers of 16 bits.
_MAX_COORDINATE = 65535

_ROOTS = {
  'http://www.nih.gov LidcReadMessage': 'ct',
  'http://www.nih.gov/idri IdriReadMessage': 'film',
}
_FILM_CHARACTERISTICS = ('confidence', 'obscuration', 'reason')
_RATINGS = lidc_types.CHARACTERISTICS + _FILM_CHARACTERISTICS
# Every element that is read, and those that it may stand in.
_PARENTS = {
  'ResponseHeader': ('message',),
  'SeriesInstanceUID': ('ResponseHeader',),
  'session': ('message',),
  'nodule': ('session',),
  'nonNodule': ('session',),
  'characteristics': ('nodule',),
  **dict.fromkeys(_RATINGS, ('characteristics',)),
  'roi': ('nodule',),
  'imageSOP_UID': ('roi', 'nonNodule'),
  'imageZposition': ('roi', 'nonNodule'),
  'inclusion': ('roi',),
  'edgeMap': ('roi',),
  'locus': ('nonNodule',),
  'xCoord': ('edgeMap', 'locus'),
  'yCoord': ('edgeMap', 'locus'),
}
# The two messages have names of their own for some of them.
_NAMES = {
  **{name: name for name in _PARENTS},
  'SeriesInstanceUid': 'SeriesInstanceUID',
  'readingSession': 'session',
  'CXRreadingSession': 'session',
  'unblindedReadNodule': 'nodule',
  'unblindedRead': 'nodule',
}


class Builder:
  """Builds a Document from expat's events, one element at a time.

  Whatever is in the wrong place, garbled or missing raises `Refused` from
  within the parser, which stops there.
  """

  def __init__(self, parser: expat.XMLParserType):
    self._kind = ''
    self._names: dict[str, str] = {}
    self._open: list[str] = []
    self._text: list[str] = []
    # What the leaves say, until the element round them takes it.
    self._fields: dict[str, str] = {}
    self._points: list[tuple[int, int]] = []
    self._contours: list[lidc_types.Contour] = []
    self._ratings: dict[str, int] = {}
    self._nodules: list[lidc_types.Nodule] = []
    self._non_nodules: list[lidc_types.Contour] = []
    self._sessions: list[lidc_types.Session] = []
    self._finish = {
      'ResponseHeader': lambda: None,
      'edgeMap': self._finish_point,
      'locus': self._finish_point,
      'roi': self._finish_contour,
      'characteristics': self._finish_characteristics,
      'nodule': self._finish_nodule,
      'nonNodule': self._finish_non_nodule,
      'session': self._finish_session,
    }
    parser.buffer_text = True
    parser.StartElementHandler = self._start
    parser.EndElementHandler = self._end
    parser.CharacterDataHandler = self._text.append
    parser.StartDoctypeDeclHandler = self._doctype

  def document(self) -> lidc_types.Document:
    """What was read, once the parser is through."""
    uid = self._take('SeriesInstanceUID')
    return lidc_types.Document(self._kind, uid, tuple(self._sessions))

  def _doctype(self, *unused: object) -> None:
    raise lidc_types.Refused(
      'found a DOCTYPE, expected none: a LIDC message has no use for it'
    )

  def _start(self, tag: str, unused_attributes: Mapping[str, str]) -> None:
    if not self._open:
      self._start_message(tag)
      return
    if len(self._open) == _MAX_DEPTH:
      raise lidc_types.Refused(
        f'found elements nested deeper than {_MAX_DEPTH}'
      )
    name = self._names.get(tag, '')
    if name and self._open[-1] not in _PARENTS[name]:
      expected = ' or '.join(_PARENTS[name])
      raise lidc_types.Refused(
        f'found a misplaced {name}, expected it in a {expected}'
      )
    self._open.append(name)
    self._text.clear()

  def _start_message(self, tag: str) -> None:
    if tag not in _ROOTS:
      raise lidc_types.NotLidc(
        'found another kind of XML, expected a LidcReadMessage of'
        ' http://www.nih.gov or an IdriReadMessage of http://www.nih.gov/idri'
      )
    self._kind = _ROOTS[tag]
    namespace = tag.split()[0]
    self._names = {f'{namespace} {key}': name for key, name in _NAMES.items()}
    self._open.append('message')

  def _end(self, unused_tag: str) -> None:
    name = self._open.pop()
    if name in self._finish:
      self._finish[name]()
    elif name in _PARENTS:
      if name in self._fields:
        raise lidc_types.Refused(f'found a second {name}, expected one')
      self._fields[name] = ''.join(self._text).strip()
    self._text.clear()

  def _take(self, name: str) -> str:
    text = self._fields.pop(name, '')
    if not text:
      raise lidc_types.Refused(f'found no {name}, expected one')
    return text

  def _take_whole(self, name: str, highest: int) -> int:
    text = self._take(name)
    # The length spares int() a number of a million digits.
    if not text.isdecimal() or len(text) > 9 or int(text) > highest:
      raise lidc_types.Refused(
        f'found {name} {text[:20]!r}, expected a whole number from 0 to'
        f' {highest}'
      )
    return int(text)

  def _take_position(self) -> float:
    text = self._take('imageZposition')
    try:
      position = float(text)
    except ValueError:
      position = math.nan
    if not math.isfinite(position):
      raise lidc_types.Refused(
        f'found imageZposition {text[:20]!r}, expected a number of mm'
      )
    return position

  def _finish_point(self) -> None:
    self._points.append(
      (
        self._take_whole('xCoord', _MAX_COORDINATE),
        self._take_whole('yCoord', _MAX_COORDINATE),
      )
    )

  def _contour(self, inclusion: bool) -> lidc_types.Contour:
    if not self._points:
      raise lidc_types.Refused(
        'found a mark without points, expected at least one'
      )
    z = math.nan
    if self._kind == 'ct':
      z = self._take_position()
    points = np.array(self._points, np.int32)
    self._points = []
    return lidc_types.Contour(self._take('imageSOP_UID'), z, inclusion, points)

  def _finish_contour(self) -> None:
    inclusion = 'TRUE'
    if self._kind == 'ct':
      inclusion = self._take('inclusion').upper()
    if inclusion not in ('TRUE', 'FALSE'):
      raise lidc_types.Refused(
        f'found inclusion {inclusion[:20]!r}, expected TRUE or FALSE'
      )
    self._contours.append(self._contour(inclusion == 'TRUE'))

  def _finish_characteristics(self) -> None:
    if self._ratings:
      raise lidc_types.Refused(
        'found characteristics twice, expected them once a nodule'
      )
    names = [name for name in _RATINGS if name in self._fields]
    self._ratings = {name: self._take_whole(name, 9) for name in names}
    missing = set(lidc_types.CHARACTERISTICS) - set(names)
    if self._kind == 'ct' and names and missing:
      raise lidc_types.Refused(
        f'found characteristics without {", ".join(sorted(missing))},'
        ' expected all nine or none'
      )

  def _finish_nodule(self) -> None:
    if not self._contours:
      raise lidc_types.Refused(
        'found a nodule without roi, expected at least one'
      )
    nodule = lidc_types.Nodule(tuple(self._contours), self._ratings)
    self._nodules.append(nodule)
    self._contours = []
    self._ratings = {}

  def _finish_non_nodule(self) -> None:
    self._non_nodules.append(self._contour(True))

  def _finish_session(self) -> None:
    self._sessions.append(
      lidc_types.Session(
        tuple(x for x in self._nodules if x.characteristics),
        tuple(x for x in self._nodules if not x.characteristics),
        tuple(self._non_nodules),
      )
    )
    self._nodules = []
    self._non_nodules = []
