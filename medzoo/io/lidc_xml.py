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
import gzip
import hashlib
import lzma
import pathlib
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from xml.parsers import expat

from medzoo.io import lidc_builder
from medzoo.io import lidc_types

Refused = lidc_types.Refused
NotLidc = lidc_types.NotLidc

# The largest of the 1,318 published files has 2.2 MB.
_MAX_BYTES = 16 << 20
_BROKEN_ARCHIVE = (
  tarfile.TarError,
  gzip.BadGzipFile,
  lzma.LZMAError,
  zlib.error,
  EOFError,
)
_ARCHIVES = ('.tar', '.tar.xz', '.tar.gz', '.tgz')


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
  builder = lidc_builder.Builder(parser)
  try:
    parser.Parse(source, True)
    return builder.document()
  except Refused as error:
    line = parser.CurrentLineNumber
    raise type(error)(f'{name}:{line}: {error}') from None
  # The other two are Python's own, about encodings that it lacks.
  except (expat.ExpatError, LookupError, ValueError) as error:
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
  if not path.is_dir():
    files = [path]
  else:
    files = [
      file
      for file in sorted(path.rglob('*'))
      if file.name.lower().endswith(('.xml', *_ARCHIVES)) and file.is_file()
    ]
  for file in files:
    if file.name.lower().endswith(_ARCHIVES):
      yield from _find_in_tar(file)
    else:
      yield str(file), _parse_or_none(file, str(file))


def _find_in_tar(
  path: pathlib.Path,
) -> Iterator[tuple[str, lidc_types.Document | None]]:
  try:
    # Nothing is unpacked to disk. The mode for streams, 'r|*', would take a
    # .tar.gz that is cut off for a shorter one.
    with tarfile.open(path, 'r:*') as archive:
      for member in archive:
        if member.isfile() and member.name.lower().endswith('.xml'):
          content = archive.extractfile(member).read(_MAX_BYTES + 1)
          name = f'{path}/{member.name}'
          yield name, _parse_or_none(content, name)
  except _BROKEN_ARCHIVE as error:
    reason = str(error).splitlines()[0].rstrip(':')
    raise Refused(f'{path}: found a broken archive: {reason}') from None


def _parse_or_none(
  source: pathlib.Path | bytes, name: str
) -> lidc_types.Document | None:
  try:
    return parse(source, name)
  except NotLidc:
    return None


def read_each(path: pathlib.Path) -> Iterator[lidc_types.Document]:
  """Reads every LIDC message in a place once, holding one at a time.

  Some series of LIDC-IDRI have their message several times; the first stands
  for all.

  Args:
    path: as of `find`.

  Yields:
    The messages, each on another series.

  Raises:
    Refused: as of `find`, or two messages on a series do not say the same.
  """
  known: dict[str, tuple[str, bytes]] = {}
  for name, document in find(path):
    if document is None:
      continue
    digest = _digest(document)
    if document.series_uid not in known:
      known[document.series_uid] = (name, digest)
      yield document
      continue
    first, expected = known[document.series_uid]
    if digest != expected:
      raise Refused(
        f'{name}: found other marks on the series that {first} is on too,'
        ' expected the same'
      )


def read_all(path: pathlib.Path) -> dict[str, lidc_types.Document]:
  """Returns what `read_each` yields by SeriesInstanceUID, to be joined."""
  return {document.series_uid: document for document in read_each(path)}


def _digest(document: lidc_types.Document) -> bytes:
  """Stands for what a message says about its series."""

  def outline(contour: lidc_types.Contour) -> tuple:
    return contour.sop_uid, contour.inclusion, contour.points.tolist()

  content = [
    [
      (nodule.characteristics, [outline(x) for x in nodule.contours])
      for nodule in (*session.nodules, *session.small_nodules)
    ]
    + [outline(x) for x in session.non_nodules]
    for session in document.sessions
  ]
  return hashlib.sha256(repr(content).encode()).digest()


def _count(path: pathlib.Path) -> collections.Counter:
  counts = collections.Counter()
  series = collections.defaultdict(set)
  for _, document in find(path):
    if document is None:
      counts['other XML files'] += 1
      continue
    kind = document.kind
    series[kind].add(document.series_uid)
    counts[f'{kind} messages'] += 1
    counts[f'{kind} series'] = len(series[kind])
    counts[f'{kind} reading sessions'] += len(document.sessions)
    for session in document.sessions:
      counts[f'{kind} rated nodules'] += len(session.nodules)
      counts[f'{kind} unrated nodules'] += len(session.small_nodules)
      counts[f'{kind} non-nodules'] += len(session.non_nodules)
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
