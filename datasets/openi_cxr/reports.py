"""Reads the XML of Open-i's reports on chest X-rays.

A file comes from outside, so expat reads it as a stream, every document type,
and with it every entity, is refused, and size and depth are bounded. Terms,
names of pictures and their captions are kept; the report's text stays in the
file.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from xml.parsers import expat

# The published ones have about 4 kB.
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_ROOT = 'eCitation'
# Those that people gave. `automatic` is left unread: a program took these from
# the report's text.
_TERMS = ('major', 'minor')


class Refused(ValueError):
  """A file that is hostile or broken."""


class NotReport(Refused):
  """A well-formed beginning of some other kind of XML file."""


@dataclasses.dataclass(frozen=True)
class Report:
  """What is kept of a report.

  Attributes:
    study: its `uId`, such as CXR1; '' where it has none.
    terms: MeSH's headings with what qualifies them, as written.
    captions: by the name of a picture, what the report says it shows.
  """

  study: str
  terms: tuple[str, ...]
  captions: Mapping[str, str]


def read(path: pathlib.Path) -> Report:
  """Reads a report.

  Args:
    path: the file.

  Returns:
    what it says.

  Raises:
    Refused: it is not well-formed, declares a document type, is too large or
      too deep, or is another kind of XML (`NotReport`).
  """
  with path.open('rb') as file:
    content = file.read(_MAX_BYTES + 1)
  if len(content) > _MAX_BYTES:
    raise Refused(f'{path}: found more than {_MAX_BYTES >> 20} MB of XML')
  parser = expat.ParserCreate()
  builder = _Builder(parser)
  try:
    parser.Parse(content, True)
  except Refused as error:
    line = parser.CurrentLineNumber
    raise type(error)(f'{path}:{line}: {error}') from None
  # The other two are Python's own, about encodings that it lacks.
  except (expat.ExpatError, LookupError, ValueError) as error:
    raise Refused(f'{path}: found broken XML: {error}') from None
  return Report(builder.study, tuple(builder.terms), builder.captions)


class _Builder:
  """Takes what is kept from expat's events."""

  def __init__(self, parser: expat.XMLParserType):
    self.study = ''
    self.terms: list[str] = []
    self.captions: dict[str, str] = {}
    self._open: list[str] = []
    self._picture = ''
    self._text: list[str] = []
    parser.buffer_text = True
    parser.StartElementHandler = self._start
    parser.EndElementHandler = self._end
    parser.CharacterDataHandler = self._text.append
    parser.StartDoctypeDeclHandler = self._doctype

  def _doctype(self, *unused: object) -> None:
    raise Refused('found a DOCTYPE, expected none: a report has no use for it')

  def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
    if not self._open and tag != _ROOT:
      raise NotReport(f'found another kind of XML, expected an {_ROOT}')
    if len(self._open) == _MAX_DEPTH:
      raise Refused(f'found elements nested deeper than {_MAX_DEPTH}')
    self._open.append(tag)
    self._text.clear()
    if tag == 'uId':
      self.study = attributes.get('id', '').strip()
    elif tag == 'parentImage':
      self._picture = attributes.get('id', '').strip()
      if self._picture:
        self.captions.setdefault(self._picture, '')

  def _end(self, tag: str) -> None:
    self._open.pop()
    parent = self._open[-1] if self._open else ''
    text = ' '.join(''.join(self._text).split())
    if text and parent == 'MeSH' and tag in _TERMS:
      self.terms.append(text)
    elif self._picture and parent == 'parentImage' and tag == 'caption':
      self.captions[self._picture] = text
    self._text.clear()
