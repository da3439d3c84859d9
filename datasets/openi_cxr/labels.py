"""The rule that makes a class of what a report found."""

import dataclasses
from collections.abc import Sequence

# What stands where nobody has looked for terms.
_NOT_INDEXED = 'no indexing'


class Undecided(ValueError):
  """A picture that the rule puts in neither class.

  Attributes:
    code: why, in one word.
  """

  def __init__(self, code: str, detail: str):
    super().__init__(detail)
    self.code = code


@dataclasses.dataclass(frozen=True)
class Rule:
  """Whose headings make a class.

  Attributes:
    positive: the headings of which one makes class 1.
    negative: the headings that, with none beside them, make class 0.
  """

  positive: Sequence[str]
  negative: Sequence[str]

  def __post_init__(self):
    for name in ('positive', 'negative'):
      headings = getattr(self, name)
      if isinstance(headings, str) or not headings or not all(headings):
        raise ValueError(
          f'found {name} {headings!r}, expected a tuple of headings'
        )
    if self._positive & self._negative:
      raise ValueError(
        f'found positive {self.positive!r} and negative {self.negative!r},'
        ' expected no heading in both'
      )

  @property
  def _positive(self) -> frozenset[str]:
    return frozenset(map(heading, self.positive))

  @property
  def _negative(self) -> frozenset[str]:
    return frozenset(map(heading, self.negative))

  def judge(self, terms: Sequence[str]) -> int:
    """Returns the class, 0 or 1.

    Headings count as a whole, what qualifies them ('/lung/right') does not.

    Args:
      terms: those of the report.

    Raises:
      Undecided: 'no_terms'; 'other_finding', there is another than the rule's
        and none of its positive ones; 'contradiction', there are headings of
        both classes.
    """
    found = {heading(term) for term in terms} - {_NOT_INDEXED}
    if not found:
      raise Undecided('no_terms', 'found no MeSH terms, expected some')
    if found & self._positive and found & self._negative:
      raise Undecided(
        'contradiction', f'found {"|".join(terms)}, expected one class'
      )
    if found & self._positive:
      return 1
    if found <= self._negative:
      return 0
    raise Undecided(
      'other_finding',
      f'found {"|".join(terms)}, expected {" or ".join(self.positive)} among'
      f' them, or nothing but {" and ".join(self.negative)}',
    )


def heading(term: str) -> str:
  """Returns a term's heading, without what qualifies it, in small letters."""
  return ' '.join(term.partition('/')[0].split()).casefold()
