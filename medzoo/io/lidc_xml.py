"""Reads the XML files of LIDC-IDRI's readers.

Two messages exist: `LidcReadMessage` (namespace http://www.nih.gov), up to
four radiologists on one CT series, and `IdriReadMessage`
(http://www.nih.gov/idri), the same on a chest film. A file comes from outside,
so expat reads it as a stream, every document type, and with it every entity,
is refused, and size and depth are bounded. Only marks are kept; names, dates,
sites and comments stay in the file.

`python -m medzoo.io.lidc_xml PATH` counts what a file, folder or tar holds.
"""

import argparse
import collections
import lzma
import math
import pathlib
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from xml.parsers import expat

import numpy as np

from medzoo.io import lidc_types

# The largest of the 1,318 published files has 2.2 MB; the deepest element is
# the sixth.
_MAX_BYTES = 16 << 20
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


class Refused(ValueError):
  """An XML file that is hostile, broken, or does not say what it should."""


class NotLidc(Refused):
  """A well-formed beginning of some other kind of XML file."""


class _Builder:
  """Builds a Document from expat's events, one element at a time."""

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
    uid = self._take('SeriesInstanceUID')
    return lidc_types.Document(self._kind, uid, tuple(self._sessions))

  def _doctype(self, *unused: object) -> None:
    raise Refused('found a DOCTYPE, expected none: LIDC messages have no use')

  def _start(self, tag: str, unused_attributes: Mapping[str, str]) -> None:
    if not self._open:
      self._start_message(tag)
      return
    if len(self._open) == _MAX_DEPTH:
      raise Refused(f'found elements nested deeper than {_MAX_DEPTH}')
    name = self._names.get(tag, '')
    if name and self._open[-1] not in _PARENTS[name]:
      expected = ' or '.join(_PARENTS[name])
      raise Refused(f'found a misplaced {name}, expected it in a {expected}')
    self._open.append(name)
    self._text.clear()

  def _start_message(self, tag: str) -> None:
    if tag not in _ROOTS:
      raise NotLidc(
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
        raise Refused(f'found a second {name}, expected one')
      self._fields[name] = ''.join(self._text).strip()
    self._text.clear()

  def _take(self, name: str) -> str:
    text = self._fields.pop(name, '')
    if not text:
      raise Refused(f'found no {name}, expected one')
    return text

  def _take_whole(self, name: str, highest: int) -> int:
    text = self._take(name)
    # The length spares int() a number of a million digits.
    if not text.isdecimal() or len(text) > 9 or int(text) > highest:
      raise Refused(
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
      raise Refused(
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
      raise Refused('found a mark without points, expected at least one')
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
      raise Refused(
        f'found inclusion {inclusion[:20]!r}, expected TRUE or FALSE'
      )
    self._contours.append(self._contour(inclusion == 'TRUE'))

  def _finish_characteristics(self) -> None:
    if self._ratings:
      raise Refused('found characteristics twice, expected them once a nodule')
    names = [name for name in _RATINGS if name in self._fields]
    self._ratings = {name: self._take_whole(name, 9) for name in names}
    missing = set(lidc_types.CHARACTERISTICS) - set(names)
    if self._kind == 'ct' and names and missing:
      raise Refused(
        f'found characteristics without {", ".join(sorted(missing))},'
        ' expected all nine or none'
      )

  def _finish_nodule(self) -> None:
    if not self._contours:
      raise Refused('found a nodule without roi, expected at least one')
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


def parse(
  source: pathlib.Path | bytes, name: str = 'XML'
) -> lidc_types.Document:
  """Reads one message.

  Args:
    source: the file, or its content.
    name: what error messages call content that has no path.

  Returns:
    All that its readers marked.

  Raises:
    Refused: it is not well-formed, declares a document type, is too large or
      too deep, is another kind of XML (`NotLidc`), or lacks or garbles what a
      mark needs. The message names file and line.
  """
  if isinstance(source, pathlib.Path):
    name = str(source)
    with source.open('rb') as file:
      source = file.read(_MAX_BYTES + 1)
  if len(source) > _MAX_BYTES:
    raise Refused(f'{name}: found more than {_MAX_BYTES >> 20} MB of XML')
  parser = expat.ParserCreate(namespace_separator=' ')
  builder = _Builder(parser)
  try:
    parser.Parse(source, True)
    return builder.document()
  except Refused as error:
    line = parser.CurrentLineNumber
    raise type(error)(f'{name}, line {line}: {error}') from None
  except expat.ExpatError as error:
    raise Refused(f'{name}: found broken XML: {error}') from None


def find(
  path: pathlib.Path,
) -> Iterator[tuple[str, lidc_types.Document | None]]:
  """Reads every XML file in a place, one after the other.

  Args:
    path: an XML file, a tar archive of such, compressed or not, or a folder
      with either at any depth.

  Yields:
    Where each lies, and its message; None for other kinds of XML.

  Raises:
    Refused: an XML file or an archive is hostile or broken.
  """
  inside = sorted(path.rglob('*')) if path.is_dir() else [path]
  for file in inside:
    if file.is_dir():
      continue
    if file.name.lower().endswith(('.tar', '.tar.xz', '.tar.gz', '.tgz')):
      yield from _find_in_tar(file)
    elif file.suffix.lower() == '.xml':
      yield str(file), _parse_or_none(file, str(file))


def _find_in_tar(
  path: pathlib.Path,
) -> Iterator[tuple[str, lidc_types.Document | None]]:
  try:
    # As a stream: nothing is unpacked to disk, nothing is read twice.
    with tarfile.open(path, 'r|*') as archive:
      for member in archive:
        if member.isfile() and member.name.lower().endswith('.xml'):
          content = archive.extractfile(member).read(_MAX_BYTES + 1)
          name = f'{path}/{member.name}'
          yield name, _parse_or_none(content, name)
  except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
    raise Refused(f'{path}: found a broken archive: {error}') from None


def _parse_or_none(
  source: pathlib.Path | bytes, name: str
) -> lidc_types.Document | None:
  try:
    return parse(source, name)
  except NotLidc:
    return None


def read_all(path: pathlib.Path) -> dict[str, lidc_types.Document]:
  """Reads every LIDC message in a place, to be joined with images by series.

  Some series of LIDC-IDRI have their message several times; one is kept.

  Args:
    path: as of `find`.

  Returns:
    SeriesInstanceUID -> message.

  Raises:
    Refused: as of `find`, or two messages on a series do not say the same.
  """
  found: dict[str, tuple[str, lidc_types.Document]] = {}
  for name, document in find(path):
    if document is None:
      continue
    first, known = found.setdefault(document.series_uid, (name, document))
    if known is not document and _content(known) != _content(document):
      raise Refused(
        f'{name}: found other marks on the series that {first} is on too,'
        ' expected the same'
      )
  return {uid: document for uid, (_, document) in found.items()}


def _content(document: lidc_types.Document) -> list:
  """What a message says, as something that can be compared."""

  def outline(contour: lidc_types.Contour) -> tuple:
    return contour.sop_uid, contour.inclusion, contour.points.tolist()

  return [
    [
      (nodule.characteristics, [outline(x) for x in nodule.contours])
      for nodule in (*session.nodules, *session.small_nodules)
    ]
    + [outline(x) for x in session.non_nodules]
    for session in document.sessions
  ]


def _count(path: pathlib.Path) -> collections.Counter:
  counts = collections.Counter()
  series = set()
  for _, document in find(path):
    if document is None:
      counts['other XML files'] += 1
      continue
    series.add(document.series_uid)
    counts[f'{document.kind} messages'] += 1
    counts['reading sessions'] += len(document.sessions)
    for session in document.sessions:
      counts['nodules with characteristics'] += len(session.nodules)
      counts['nodules without'] += len(session.small_nodules)
      counts['non-nodules'] += len(session.non_nodules)
  counts['series'] = len(series)
  return counts


def main(argv: Sequence[str] | None = None) -> int:
  """Prints how much a place holds; counts only, which identify nobody."""
  parser = argparse.ArgumentParser(prog='python -m medzoo.io.lidc_xml')
  parser.add_argument('path', type=pathlib.Path, help='XML, tar or folder')
  path = parser.parse_args(argv).path
  try:
    counts = _count(path)
  except (OSError, Refused) as error:
    print(error, file=sys.stderr)
    return 1
  for name, count in counts.items():
    print(f'{count:8d} {name}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
