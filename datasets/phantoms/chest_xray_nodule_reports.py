"""Writes the reports of phantom chest X-rays in Open-i's XML."""

import pathlib
from collections.abc import Sequence
from xml.etree import ElementTree

NORMAL = 'normal'
# By heading, what is found and what is concluded; {} is what qualifies it.
_SENTENCES = {
  NORMAL: (
    'Lungs are clear. Heart size is normal.',
    'No acute finding.',
  ),
  'Nodule': (
    'There is a nodule: {}. No pleural effusion.',
    'Pulmonary nodule, {}; comparison with older films is advised.',
  ),
  'Cardiomegaly': (
    'The heart is enlarged: {}. Lungs are clear.',
    'Cardiomegaly, {}.',
  ),
  'Opacity': (
    'There is an opacity: {}. Heart size is normal.',
    'Opacity, {}.',
  ),
  'Pleural Effusion': (
    'There is fluid in the pleural space: {}.',
    'Pleural effusion, {}.',
  ),
}


def write(
  study: str,
  terms: Sequence[str],
  films: Sequence[tuple[str, str]],
  folder: pathlib.Path,
) -> None:
  """Writes a study's report.

  Args:
    study: such as 'CXR1'.
    terms: MeSH's headings with what qualifies them, such as
      'Nodule/lung/upper lobe/right'; `NORMAL` alone where there is nothing.
    films: the name of each and its projection, 'PA' or 'AP'.
    folder: exists; the file is named by the study's number.
  """
  number = study.removeprefix('CXR')
  root = ElementTree.Element('eCitation')
  _add(root, 'meta', type='rr')
  _add(root, 'uId', id=study)
  _add(root, 'docSource', 'CXR')
  _add(root, 'IUXRId', id=number)
  _add(root, 'articleType', 'XR')
  _add(root, 'title', 'Phantom chest X-rays')
  _add(root, 'note', 'Synthetic: no patient was X-rayed.')
  _add(root, 'subset', 'CXR')
  citation = _add(root, 'MedlineCitation', Status='synthetic')
  abstract = _add(_add(citation, 'Article'), 'Abstract')
  found, concluded = _sentences(terms)
  for label, text in (
    ('COMPARISON', 'None.'),
    ('INDICATION', 'Phantom.'),
    ('FINDINGS', found),
    ('IMPRESSION', concluded),
  ):
    _add(abstract, 'AbstractText', text, Label=label)
  headings = _add(citation, 'MeSH')
  for term in terms:
    _add(headings, 'major', term)
  for i, (name, projection) in enumerate(films):
    image = _add(root, 'parentImage', id=name)
    _add(image, 'figureId', f'F{i + 1}')
    _add(image, 'caption', f'Xray Chest {projection}')
  ElementTree.indent(root)
  ElementTree.ElementTree(root).write(
    folder / f'{number}.xml', encoding='utf-8', xml_declaration=True
  )


def _add(
  parent: ElementTree.Element, tag: str, text: str | None = None, **attributes
) -> ElementTree.Element:
  element = ElementTree.SubElement(parent, tag, attributes)
  element.text = text
  return element


def _sentences(terms: Sequence[str]) -> tuple[str, str]:
  """Returns the report's findings and its impression."""
  pairs = []
  for term in terms:
    heading, *qualifiers = term.split('/')
    pairs.append(
      [text.format(', '.join(qualifiers)) for text in _SENTENCES[heading]]
    )
  found, concluded = (' '.join(texts) for texts in zip(*pairs, strict=True))
  return found, concluded
