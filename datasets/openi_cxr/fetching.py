"""Fetches from one server, slowly and within its rules.

Only addresses of that server that its robots.txt allows are asked for, one
after the other with a pause between; what fails for the moment is asked for
again, ever later; nothing larger or slower than expected is read to its end.
"""

import email.utils
import http
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
import urllib.robotparser
from collections.abc import Callable
from typing import TypeVar

AGENT = 'medzoo-openi/0.1'
_TRIES = 5
_TIMEOUT = 30.0
# Of one answer in all, seconds.
_LONGEST_ANSWER = 300.0
# Beyond this, seconds, nobody sits and waits.
_LONGEST_WAIT = 300.0
# RFC 9309 wants as much of robots.txt to be read.
_ROBOTS_BYTES = 500 << 10
_CHUNK = 1 << 16

Value = TypeVar('Value')


class Failed(Exception):
  """An address that gives nothing usable, however often it is asked for."""


class Forbidden(Failed):
  """The server wants none of this."""


class _Again(Exception):
  """What may be right later.

  Attributes:
    wait: seconds that the server asks for.
  """

  def __init__(self, detail: str, wait: float = 0.0):
    super().__init__(detail)
    self.wait = wait


class Client:
  """Asks one server."""

  def __init__(self, base_url: str, delay: float):
    """Chooses the server.

    Args:
      base_url: its address, http or https.
      delay: least seconds between two requests; robots.txt may ask for more.

    Raises:
      ValueError: the address is of another kind.
    """
    self._base = urllib.parse.urlsplit(base_url)
    if self._base.scheme not in ('http', 'https') or not self._base.hostname:
      raise ValueError(
        f'found {base_url!r}, expected an address that begins with https://'
      )
    self._delay = delay
    self._last = -delay
    self._robots: urllib.robotparser.RobotFileParser | None = None
    # Python's usual opener would follow a redirection to ftp.
    self._opener = urllib.request.OpenerDirector()
    for handler in (
      urllib.request.ProxyHandler(),
      urllib.request.HTTPHandler(),
      urllib.request.HTTPSHandler(),
      urllib.request.HTTPDefaultErrorHandler(),
      urllib.request.HTTPErrorProcessor(),
      _Redirections(self._check),
    ):
      self._opener.add_handler(handler)

  def get(
    self, url: str, most_bytes: int, check: Callable[[bytes], Value]
  ) -> Value:
    """Fetches an address.

    Args:
      url: the address.
      most_bytes: how large the answer may be.
      check: makes something of the answer; a ValueError of it counts as a
        failure for the moment.

    Returns:
      what `check` made of the answer.

    Raises:
      Forbidden: robots.txt forbids it, or cannot be read.
      Failed: it gives nothing usable.
    """
    if self._robots is None:
      self._robots = self._read_robots()
    return self._ask(url, most_bytes, check)

  def _read_robots(self) -> urllib.robotparser.RobotFileParser:
    robots = urllib.robotparser.RobotFileParser()
    url = urllib.parse.urlunsplit((*self._base[:2], '/robots.txt', '', ''))
    try:
      text = self._ask(
        url, _ROBOTS_BYTES, lambda x: x.decode('utf-8-sig', errors='replace')
      )
    except _Missing:
      text = ''
    except Failed as error:
      raise Forbidden(
        f'{error}; without its robots.txt nothing else is asked for'
      ) from None
    robots.parse(text.splitlines())
    self._delay = max(self._delay, float(robots.crawl_delay(AGENT) or 0))
    return robots

  def _ask(
    self, url: str, most_bytes: int, check: Callable[[bytes], Value]
  ) -> Value:
    attempt = 0
    while True:
      attempt += 1
      try:
        return check(self._request(url, most_bytes))
      except (_Again, ValueError) as error:
        wait = max(2.0 ** (attempt - 1), getattr(error, 'wait', 0.0))
        if attempt == _TRIES or wait > _LONGEST_WAIT:
          asked = f', wants a pause of {wait:.0f} s' * (wait > _LONGEST_WAIT)
          raise Failed(
            f'{url}: {error}, after {attempt} tries{asked}'
          ) from None
        time.sleep(wait)

  def _request(self, url: str, most_bytes: int) -> bytes:
    self._check(url)
    request = urllib.request.Request(url, headers={'User-Agent': AGENT})
    try:
      with self._opener.open(request, timeout=_TIMEOUT) as response:
        return _read(response, url, most_bytes)
    except urllib.error.HTTPError as error:
      with error:
        raise _judge(error, url) from None
    except (OSError, http.client.HTTPException) as error:
      reason = getattr(error, 'reason', error)
      raise _Again(f'found no answer ({reason!r})') from None

  def _check(self, url: str) -> None:
    """Refuses what lies elsewhere or is forbidden, then waits for its turn."""
    parts = urllib.parse.urlsplit(url)
    if parts[:2] != self._base[:2]:
      raise Failed(
        f'{url[:200]}: found another server, expected'
        f' {self._base.scheme}://{self._base.netloc}'
      )
    if self._robots and not self._robots.can_fetch(AGENT, url):
      raise Forbidden(f'{url}: found it forbidden by robots.txt, expected not')
    time.sleep(max(self._last + self._delay - time.monotonic(), 0))
    self._last = time.monotonic()


class _Missing(Failed):
  """An address that leads to nothing."""


class _Redirections(urllib.request.HTTPRedirectHandler):
  """Follows redirections to what `check` lets pass."""

  def __init__(self, check: Callable[[str], None]):
    self._check = check

  def redirect_request(self, req, fp, code, msg, headers, newurl):
    # What comes with the redirection may have no end, and would be read.
    fp.close()
    self._check(newurl)
    return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(
  response: http.client.HTTPResponse, url: str, most_bytes: int
) -> bytes:
  """Reads an answer as far as it may be read.

  Raises:
    Failed: it is too large.
    _Again: it is cut off, or too slow.
  """
  if response.status != http.HTTPStatus.OK:
    raise _Again(f'found status {response.status}, expected 200')
  body = bytearray()
  end = time.monotonic() + _LONGEST_ANSWER
  while chunk := response.read1(_CHUNK):
    body += chunk
    if len(body) > most_bytes:
      raise Failed(
        f'{url}: found more than {most_bytes} bytes, expected a smaller answer'
      )
    if time.monotonic() > end:
      raise _Again(f'found no end within {_LONGEST_ANSWER:.0f} s')
  length = response.headers.get('Content-Length', '')
  # read1 takes a connection that ends too early for the end.
  if length.isdecimal() and len(body) != int(length):
    raise _Again(f'found {len(body)} bytes, expected {length}')
  return bytes(body)


def _judge(error: urllib.error.HTTPError, url: str) -> Exception:
  """Tells what is over from what may be right later."""
  if error.code in (408, 429) or error.code >= 500:
    wait = _seconds(error.headers.get('Retry-After', ''))
    return _Again(f'found HTTP status {error.code}', wait)
  kind = _Missing if 400 <= error.code < 500 else Failed
  return kind(f'{url}: found HTTP status {error.code}, expected 200')


def _seconds(text: str) -> float:
  """Reads Retry-After, a number of seconds or a date; 0 where it is neither."""
  if text.strip().isdecimal():
    return float(text)
  try:
    date = email.utils.parsedate_to_datetime(text)
  except ValueError:
    return 0.0
  return max(date.timestamp() - time.time(), 0.0)
