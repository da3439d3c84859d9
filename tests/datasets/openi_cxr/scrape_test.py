import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from email import utils
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from datasets import build
from datasets.openi_cxr import fetching
from datasets.openi_cxr import scrape
from datasets.openi_cxr import searches
from medzoo.data import sources
from tests.datasets.openi_cxr import openi_server

answer = openi_server.answer
_HTML = b'<!DOCTYPE html><html><body>Down for maintenance</body></html>'


class _Clock:
  """Time that passes only while one sleeps."""

  def __init__(self):
    self.now = 1e9
    self.naps = []

  def monotonic(self):
    return self.now

  time = monotonic

  def sleep(self, seconds):
    self.now += seconds
    if seconds:
      self.naps.append(seconds)


class ScrapeTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.base = pathlib.Path(self.create_tempdir().full_path)
    self.folder = self.base / 'inner/films'
    self.clock = _Clock()
    for patch in (
      mock.patch.object(fetching, 'time', self.clock),
      mock.patch.object(searches, '_PAGE', 3),
      mock.patch.dict(os.environ, no_proxy='*'),
    ):
      patch.start()
      self.addCleanup(patch.stop)
    self.server = self.start(8)

  def start(self, films=0):
    server = openi_server.Server(films)
    server.__enter__()
    self.addCleanup(lambda: server._thread.is_alive() and server.stop())
    return server

  def run_main(self, *arguments, server=None, delay=0):
    """Returns the exit code and the lines after the licence's."""
    errors, output = io.StringIO(), io.StringIO()
    with (
      contextlib.redirect_stderr(errors),
      contextlib.redirect_stdout(output),
    ):
      code = scrape.main(
        [
          str(self.folder),
          '--accept_terms',
          f'--base_url={(server or self.server).url}/',
          f'--delay={delay}',
          *arguments,
        ]
      )
    licence, *lines = errors.getvalue().splitlines()
    self.assertEqual(licence, scrape.TERMS)
    return code, [*lines, *output.getvalue().splitlines()]

  def index(self):
    return json.loads((self.folder / 'data.json').read_text())

  def assert_complete(self, server=None, but=()):
    """Checks that every film is there once, whole, and nothing else is."""
    server = server or self.server
    expected = {k: v for k, v in server.pictures.items() if k not in but}
    found = {}
    for n, entry in self.index().items():
      content = (self.folder / f'{n}.png').read_bytes()
      self.assertEqual(entry['sha256'], hashlib.sha256(content).hexdigest())
      path = entry['img'].partition('127.0.0.1:')[2].partition('/')[2]
      self.assertNotIn(f'/{path}', found)
      found[f'/{path}'] = content
    self.assertEqual(found, expected)
    names = {path.name for path in self.folder.iterdir()}
    self.assertLessEqual(
      names,
      {f'{n}.png' for n in self.index()}
      | {'data.json', '.scrape.lock', '.partial'},
    )
    outside = [x for x in self.base.rglob('*') if self.folder not in x.parents]
    self.assertCountEqual(outside, [self.folder.parent, self.folder])

  def test_films_are_fetched_and_the_builder_reads_them(self):
    self.server.items[2]['MeSH'] = {'major': ['Nodule/lung'], 'minor': ['Scar']}
    self.server.items[3]['MeSH'] = {'major': ['Nodule/lung'], 'minor': []}
    code, lines = self.run_main()
    self.assertEqual(
      (code, lines), (0, [f'{self.folder}: 8 films fetched, 8 in all'])
    )
    self.assert_complete()
    robots, first, *_ = self.server.requests
    self.assertEqual(robots, '/robots.txt')
    self.assertEqual(first, '/api/search?it=xg&coll=cxr&m=1&n=3')
    self.assertLen(self.server.asked('/api'), 3)
    entry = self.index()['3']
    self.assertEqual(entry['items'], ['Nodule/lung', 'Scar'])
    self.assertEqual(entry['uid'], 'CXR1')
    directory = build.prepare(
      'openi_cxr',
      manual_dir=self.folder,
      data_dir=self.base / 'data',
      shares={'train': 1},
    )
    found = sources.open_cases(directory, 'all')
    self.assertEqual(found.labels, [0, 0, 1, 1, 0, 0, 0, 0])
    self.assertLen(set(found.groups), 4)

  def test_nothing_is_fetched_twice(self):
    self.run_main()
    count = len(self.server.asked('/imgs'))
    code, lines = self.run_main()
    self.assertEqual(code, 0)
    self.assertEndsWith(lines[-1], '0 films fetched, 8 in all')
    self.assertLen(self.server.asked('/imgs'), count)

  def test_a_query_and_a_limit_are_kept_to(self):
    code, lines = self.run_main('--query=nodule & mass', '--limit=4')
    self.assertEqual(code, 0)
    self.assertEndsWith(lines[-1], '4 films fetched, 4 in all')
    self.assertLen(self.server.asked('/imgs'), 4)
    self.assertEqual(
      self.server.asked('/api')[0],
      '/api/search?query=nodule+%26+mass&it=xg&coll=cxr&m=1&n=3',
    )
    self.assertEqual(self.run_main('--limit=4')[0], 0)
    self.assertLen(self.server.asked('/imgs'), 4)
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()

  def test_what_fails_for_the_moment_is_asked_for_again(self):
    a, b, c, d, *_ = self.server.pictures
    half = self.server.pictures[b][:50]
    self.server.odd = {
      '/robots.txt': [answer(status=503)],
      '/api/search': [answer(_HTML), answer(b'{"total": 8}' * 2), answer(b'7')],
      a: [answer(status=500)] * 4,
      b: [
        answer(half, length=len(self.server.pictures[b])),
        answer(half),
        answer(half, length=-1),
      ],
      c: [answer(_HTML), answer(b'')],
      d: [answer(status=429, Retry_After='120'), answer(status=204)],
    }
    code, lines = self.run_main()
    self.assertEqual(code, 0, lines)
    self.assertLen(lines, 1)
    self.assert_complete()
    self.assertEqual(
      self.clock.naps,
      [1, *(1, 2, 4), *(1, 2, 4, 8), *(1, 2, 4), *(1, 2), *(120, 2)],
    )

  def test_a_date_to_come_back_at_is_kept_to(self):
    date = utils.formatdate(self.clock.now + 90, usegmt=True)
    self.server.odd['/api/search'] = [answer(status=503, Retry_After=date)]
    self.assertEqual(self.run_main()[0], 0)
    self.assertEqual(self.clock.naps, [90])

  def test_a_long_pause_is_not_waited_for(self):
    self.server.odd['/api/search'] = [answer(status=503, Retry_After='9999')]
    code, (line,) = self.run_main()
    self.assertEqual(code, 1)
    self.assertEndsWith(
      line, 'status 503, after 1 tries, wants a pause of 9999 s'
    )

  def test_requests_keep_their_distance(self):
    self.run_main(delay=2.5)
    self.assertEqual(self.clock.naps, [2.5] * (len(self.server.requests) - 1))
    self.clock.naps.clear()
    self.server.odd['/robots.txt'] = [
      answer(b'User-agent: *\nCrawl-delay: 7\nDisallow: /private\n')
    ]
    self.run_main()
    self.assertEqual(self.clock.naps, [7] * 3)

  @parameterized.named_parameters(
    ('html', [answer(_HTML)] * 5, "found b'<!DOCTYPE html>"),
    ('errors', [answer(status=502)] * 5, 'found HTTP status 502, after 5'),
    ('no_list', [answer(b'{"total": "8"}')] * 5, 'with total and list, aft'),
    ('gone', [answer(status=404)], 'found HTTP status 404, expected 200'),
    ('endless', [openi_server.endless], 'found more than 100000 bytes'),
    ('deep', [answer(b'[' * 90_000)] * 5, 'expected a JSON of films, after'),
  )
  def test_a_search_that_stays_broken_is_told_in_a_line(self, odd, message):
    self.server.odd['/api/search'] = list(odd)
    with mock.patch.object(searches, '_MOST_BYTES', 100_000):
      code, (line,) = self.run_main()
    self.assertEqual(code, 1)
    self.assertStartsWith(line, f'error: {self.server.url}/api/search?')
    self.assertIn(message, line)
    self.assertEmpty(self.server.asked('/imgs'))
    self.assertEqual(self.index(), {})
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()

  def test_a_search_that_is_refused_is_the_calls_fault(self):
    self.server.odd['/api/search'] = [
      answer(b'{"Query-Error": "Invalid request type."}')
    ]
    code, (line,) = self.run_main()
    self.assertEqual(code, 2)
    self.assertIn('Invalid request type.', line)

  def test_a_search_without_end_ends(self):
    page = json.dumps({'total': 10**9, 'list': self.server.items[:3]}).encode()
    self.server.odd['/api/search'] = [answer(page)] * 99
    code, (line,) = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn('found 10 pages of films that it gave before', line)
    self.assertLen(self.index(), 3)

  def test_nothing_found_is_no_error(self):
    self.server.odd['/api/search'] = [answer(b'{"total": 0}')]
    code, lines = self.run_main()
    self.assertEqual(code, 0)
    self.assertEndsWith(lines[-1], '0 films fetched, 0 in all')

  def test_doubles_are_fetched_once(self):
    self.server.items[1:1] = [self.server.items[0]] * 2
    self.server.items += self.server.items[:4]
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()
    self.assertLen(self.server.asked('/imgs'), 8)

  def test_names_that_lead_elsewhere_are_never_asked_for(self):
    secret = self.base / 'secret.png'
    secret.write_bytes(openi_server.png(99))
    bad = [
      *('../../x.png', '/../../x.png', '/a/../../x.png', '/a/..png/../x.png'),
      *('/%2e%2e/%2e%2e/x.png', '/a%2f..%2fx.png', '/a\\..\\..\\x.png'),
      *('//127.0.0.1:1/x.png', 'http://127.0.0.1:1/x.png', '/.x.png'),
      *(f'file://{secret}', str(secret) + '\0', '/a b.png', '/x.png?a=/../'),
      *('/etc/passwd', '', '/x.png\n', '/x.png/'),
    ]
    self.server.items += [openi_server.item(path, 'CXR9') for path in bad]
    self.server.items += [
      *({}, [], None, 'x', {'imgLarge': 1, 'uid': 'a', 'MeSH': {}}),
      openi_server.item('/x.png', 7),
      openi_server.item('/x.png', 'CXR9', [{}]),
      openi_server.item('/x.png', 'CXR9') | {'MeSH': {'major': 'normal'}},
    ]
    code, lines = self.run_main()
    self.assertEqual(code, 1)
    secret.unlink()
    self.assert_complete()
    self.assertLen(self.server.asked('/imgs'), 8)
    self.assertEmpty(
      set(self.server.asked('/'))
      - {*self.server.pictures, '/robots.txt', *self.server.asked('/api')}
    )
    self.assertLen(lines, len(bad) + 8 + 1)
    self.assertEndsWith(
      lines[-1], f'{len(bad) + 8} left out; the same call tries them'
    )

  def test_what_is_not_indexed_has_no_terms(self):
    del self.server.items[0]['MeSH'], self.server.items[0]['image']
    self.server.items[1]['MeSH'] = {'major': None}
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()
    self.assertEqual([self.index()[n]['items'] for n in '12'], [[], []])

  def test_redirections_elsewhere_are_not_followed(self):
    other = self.start(8)
    secret = self.base / 'secret.png'
    secret.write_bytes(openi_server.png(99))
    a, b, c, d, e, *_ = self.server.pictures
    for path, target in (
      (a, other.url + a),
      (b, secret.as_uri()),
      (c, f'ftp://127.0.0.1:{other.port}{c}'),
      (d, 'data:image/png;base64,AAAA'),
    ):
      self.server.odd[path] = [answer(status=302, Location=target)]
    self.server.odd[e] = [
      answer(b'x' * 9999, 302, Location='/moved.png'),
    ]
    self.server.odd['/moved.png'] = [answer(self.server.pictures[e])]
    code, lines = self.run_main()
    self.assertEqual(code, 1)
    self.assertLen(lines, 5)
    self.assertIn('found another server, expected http://127', lines[0])
    self.assertEmpty(other.requests)
    secret.unlink()
    self.assert_complete(but={a, b, c, d})
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()

  def test_a_redirection_in_a_circle_ends(self):
    a = next(iter(self.server.pictures))
    self.server.odd[a] = [answer(status=302, Location=a)] * 99
    self.assertEqual(self.run_main()[0], 1)
    self.assert_complete(but={a})

  def test_what_is_too_large_or_too_slow_is_left(self):
    a, b, *_ = self.server.pictures
    self.server.odd = {a: [openi_server.endless]}
    with mock.patch.object(scrape, '_MOST_BYTES', 100_000):
      code, lines = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn('found more than 100000 bytes', lines[0])
    self.assert_complete(but={a})
    with mock.patch.object(fetching, '_LONGEST_ANSWER', -1.0):
      code, (line,) = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn('found no end within', line)

  @parameterized.named_parameters(
    ('films', b'User-agent: *\nDisallow: /imgs\n', 200, 'forbidden by robots'),
    (
      'us',
      b'\xef\xbb\xbfUser-agent: medzoo-openi\nDisallow: /\n',
      200,
      'forbidden by rob',
    ),
    ('all', b'User-agent: *\nDisallow: /', 200, 'forbidden by robots.txt'),
    ('broken', b'', 500, 'without its robots.txt nothing else is asked for'),
  )
  def test_robots_are_obeyed(self, text, status, message):
    self.server.odd['/robots.txt'] = [answer(text, status)] * 5
    code, (line,) = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn(message, line)
    self.assertEmpty(self.server.asked('/imgs'))
    self.assertEqual(self.index(), {})

  def test_robots_forbid_redirections_too(self):
    a, b, *_ = self.server.pictures
    self.server.odd = {
      '/robots.txt': [answer(f'User-agent: *\nDisallow: {b}'.encode())],
      a: [answer(status=301, Location=b)],
    }
    code, lines = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn('forbidden by robots.txt', lines[-1])
    self.assertNotIn(b, self.server.requests)

  def test_robots_for_others_do_not_concern_us(self):
    self.server.odd['/robots.txt'] = [
      answer(b'User-agent: x\nDisallow: /\n\nUser-agent: *\nDisallow: /admin')
    ]
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()

  def test_a_server_that_stops_half_way_loses_nothing(self):
    stopped = self.server
    path = list(stopped.pictures)[4]

    def stop(handler):
      # From within a request, which the server waits for no longer.
      stopped._http.shutdown()
      stopped._http.server_close()
      handler.close_connection = True

    stopped.odd[path] = [stop]
    code, lines = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn('found no answer', lines[-1])
    first = stopped.asked('/imgs')[:-1]
    self.assertLen(self.index(), 4)
    again = self.start(8)
    self.assertEqual(self.run_main(server=again)[0], 0)
    self.assert_complete(again)
    self.assertCountEqual([*first, *again.asked('/imgs')], again.pictures)

  def test_a_killed_scraper_loses_nothing(self):
    server = self.start(8)
    path = list(server.pictures)[5]
    ready = []
    # The sixth film's answer does not come before the scraper is killed.
    server.odd[path] = [
      lambda handler: (ready.append(1), time.sleep(1), handler.send_error(500))
    ]
    command = [sys.executable, '-m', 'datasets.openi_cxr.scrape']
    with subprocess.Popen(
      [
        *command,
        str(self.folder),
        '--accept_terms',
        '--delay=0',
        f'--base_url={server.url}',
      ],
      stderr=subprocess.DEVNULL,
    ) as process:
      while not ready and process.poll() is None:
        time.sleep(0.01)
      process.send_signal(signal.SIGKILL)
    first = server.asked('/imgs')[:-1]
    self.assertLen(first, 5)
    self.assertLen(self.index(), 5)
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()
    self.assertCountEqual(
      [*first, *self.server.asked('/imgs')], server.pictures
    )

  def test_lost_and_changed_films_are_fetched_again(self):
    self.run_main()
    self.server.requests.clear()
    (self.folder / '2.png').unlink()
    (self.folder / '5.png').write_bytes(openi_server.png(77))
    code, lines = self.run_main()
    self.assertEqual(code, 0)
    self.assertEndsWith(lines[-1], '2 films fetched, 8 in all')
    paths = list(self.server.pictures)
    self.assertEqual(self.server.asked('/imgs'), [paths[1], paths[4]])
    self.assert_complete()

  def test_what_the_older_scraper_fetched_is_kept(self):
    self.folder.mkdir(parents=True)
    path, content = next(iter(self.server.pictures.items()))
    address = f'https://openi.nlm.nih.gov/{path}'
    entry = {'type': 'Major', 'items': ['normal'], 'img': address}
    (self.folder / 'data.json').write_text(json.dumps({'7': entry}))
    (self.folder / '7.png').write_bytes(content)
    self.assertEqual(self.run_main()[0], 0)
    self.assertNotIn(path, self.server.requests)
    self.assertEqual(list(self.index()), [str(n) for n in range(7, 15)])

  def test_a_full_disk_is_told_in_a_line(self):
    full = OSError(errno.ENOSPC, 'No space left on device')
    calls = []

    def sync(number):
      calls.append(number)
      if len(calls) == 8:
        raise full

    with mock.patch.object(os, 'fsync', sync):
      code, lines = self.run_main()
    self.assertEqual(code, 1)
    self.assertEqual(lines, ['error: [Errno 28] No space left on device'])
    self.assertLen(self.index(), 3)
    self.assertEqual(self.run_main()[0], 0)
    self.assert_complete()

  def test_being_interrupted_is_told_in_a_line(self):
    with mock.patch.object(searches, 'parse', side_effect=KeyboardInterrupt):
      code, lines = self.run_main()
    self.assertEqual((code, lines), (1, ['stopped; the same call goes on']))

  @parameterized.named_parameters(
    ('delay', ['--delay=-1'], 'found --limit 0 and --delay -1.0, expected 0'),
    ('pause', ['--delay=nan'], '--delay nan, expected 0'),
    ('limit', ['--limit=-1'], 'found --limit -1'),
    ('address', ['--base_url=file:///etc'], "--base_url: found 'file:///etc'"),
    ('host', ['--base_url=https://'], "--base_url: found 'https:'"),
  )
  def test_a_wrong_call_is_told_in_a_line(self, arguments, message):
    code, (line,) = self.run_main(*arguments)
    self.assertEqual(code, 2)
    self.assertIn(message, line)
    self.assertFalse(self.folder.exists())
    self.assertEmpty(self.server.requests)

  def test_the_licence_must_be_accepted(self):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
      code = scrape.main([str(self.folder), f'--base_url={self.server.url}'])
    self.assertEqual(code, 2)
    licence, line = errors.getvalue().splitlines()
    self.assertIn('CC BY-NC-ND 4.0', licence)
    self.assertIn('found no --accept_terms, expected', line)
    self.assertFalse(self.folder.exists())
    self.assertEmpty(self.server.requests)

  def test_other_folders_are_left_alone(self):
    self.folder.mkdir(parents=True)
    (self.folder / '1.png').write_text('mine')
    code, (line,) = self.run_main()
    self.assertEqual(code, 2)
    self.assertIn('found files but no data.json, expected an empty', line)
    self.assertEqual((self.folder / '1.png').read_text(), 'mine')
    (self.folder / '1.png').unlink()
    self.folder /= 'file'
    self.folder.write_text('mine')
    code, lines = self.run_main()
    self.assertEqual(code, 2)
    self.assertEqual(
      lines, [f'error: {self.folder}: cannot be written: File exists']
    )
    self.assertEmpty(self.server.requests)

  @parameterized.parameters(
    ('{', 'found what is no JSON'),
    ('{"../../x": {"img": "a"}}', "found an entry '../../x', expected a num"),
    ('{"1": {}}', 'found an entry 1 without img'),
  )
  def test_a_broken_index_is_left_alone(self, text, message):
    self.folder.mkdir(parents=True)
    (self.folder / 'data.json').write_text(text)
    code, (line,) = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn(message, line)
    self.assertEqual((self.folder / 'data.json').read_text(), text)
    self.assertEmpty(self.server.requests)


if __name__ == '__main__':
  absltest.main()
