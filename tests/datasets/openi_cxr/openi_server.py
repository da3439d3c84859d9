"""A server on this machine that answers as Open-i does, or misbehaves."""

import http.server
import io
import json
import threading
import urllib.parse

import numpy as np
from PIL import Image


def png(seed):
  file = io.BytesIO()
  rng = np.random.default_rng(seed)
  Image.fromarray(rng.integers(0, 256, (8, 6), np.uint8)).save(file, 'PNG')
  return file.getvalue()


def item(path, uid, terms=('normal',)):
  return {
    'uid': uid,
    'imgLarge': path,
    'MeSH': {'major': list(terms), 'minor': []},
    'image': {'id': 'F1', 'caption': 'PA and lateral'},
  }


class Server:
  """Serves films of two views a study; `with` starts and stops it.

  Attributes:
    items: what its search finds.
    pictures: content by path.
    odd: by path, without a query, functions that answer in place of it, from
      the first request on; each takes the request's handler.
    requests: paths that were asked for, with their queries.
    port: where it listens.
  """

  def __init__(self, films=4):
    self.pictures = {
      f'/imgs/512/{i // 2}/CXR{i // 2}_IM-{i:04}-{1 + i % 2}001.png': png(i)
      for i in range(films)
    }
    self.items = [
      item(path, f'CXR{i // 2}') for i, path in enumerate(self.pictures)
    ]
    self.odd = {}
    self.requests = []
    handler = type('Handler', (_Handler,), {'owner': self})
    self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    self._http.daemon_threads = True
    # A client that hangs up is no fault, and what is printed is read in tests.
    self._http.handle_error = lambda *unused: None
    self.port = self._http.server_port
    self.url = f'http://127.0.0.1:{self.port}'

  def __enter__(self):
    self._thread = threading.Thread(
      target=self._http.serve_forever, kwargs={'poll_interval': 0.01}
    )
    self._thread.start()
    return self

  def __exit__(self, *unused):
    self.stop()

  def stop(self):
    self._http.shutdown()
    self._thread.join()
    self._http.server_close()

  def asked(self, start):
    return [path for path in self.requests if path.startswith(start)]


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    owner = self.owner
    owner.requests.append(self.path)
    parts = urllib.parse.urlsplit(self.path)
    waiting = owner.odd.get(parts.path)
    if waiting:
      waiting.pop(0)(self)
    elif parts.path == '/api/search':
      fields = dict(urllib.parse.parse_qsl(parts.query))
      first, last = int(fields['m']), int(fields['n'])
      found = owner.items[first - 1 : last]
      answer = {'total': len(owner.items), 'list': found}
      send(self, json.dumps(answer).encode())
    elif parts.path in owner.pictures:
      send(self, owner.pictures[parts.path])
    else:
      self.send_error(404)

  def log_message(self, *unused):
    pass


def send(handler, content, status=200, length=None, **headers):
  """Answers; `length` is what the header claims, -1 for no header."""
  handler.send_response(status)
  for name, value in headers.items():
    handler.send_header(name.replace('_', '-'), value)
  if length != -1:
    handler.send_header('Content-Length', str(length or len(content)))
  handler.end_headers()
  handler.wfile.write(content)


def answer(content=b'', status=200, length=None, **headers):
  """Makes an odd answer."""
  return lambda handler: send(handler, content, status, length, **headers)


def endless(handler):
  handler.send_response(200)
  handler.end_headers()
  try:
    while True:
      handler.wfile.write(bytes(1 << 16))
  except OSError:
    pass
