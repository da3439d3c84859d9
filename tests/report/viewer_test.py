import base64
import hashlib
import re

from absl.testing import absltest

from medzoo.report import page
from medzoo.report import viewer
from tests.report import pages


def _scan(frames=3, boxes=(), opening=1, title='A scan'):
  return viewer.Scan(
    title,
    (100, 208),
    tuple(
      viewer.Frame(f'Slice {i + 1}', b'jpeg %d' % i, tuple(boxes))
      for i in range(frames)
    ),
    opening,
  )


def _context(*boxes, frames=1):
  shown = viewer.context(viewer.Viewer('V', [_scan(frames, boxes, 0)]))
  return shown['scans'][0]


class ContextTest(absltest.TestCase):
  def test_places_a_box_and_its_text(self):
    box = _context(viewer.Box('truth', (20, 30, 25.5, 40), 'class 2'))
    self.assertEqual(
      box['frames'][0]['boxes'],
      [
        {
          'kind': 'truth', 'x': '30', 'y': '20', 'width': '10',
          'height': '5.5', 'text': 'class 2', 'text_x': '30',
          'text_y': '29.5', 'anchor': 'start',
        }
      ],
    )  # fmt: skip

  def test_text_stays_in_the_picture_and_off_the_other_text(self):
    def place(kind, *corners):
      (box,) = _context(viewer.Box(kind, corners, 'x'))['frames'][0]['boxes']
      return box['text_x'], box['text_y'], box['anchor']

    self.assertEqual(
      place('detection', 20, 30, 30, 40), ('30', '18.8', 'start')
    )
    self.assertEqual(place('detection', 1, 190, 9, 200), ('200', '13', 'end'))
    self.assertEqual(place('truth', 1, 30, 9, 40), ('30', '13', 'start'))
    self.assertEqual(place('truth', 80, 30, 98, 40), ('30', '78.8', 'start'))

  def test_says_in_words_what_a_frame_holds(self):
    scan = _context(
      viewer.Box('truth', (0, 0, 1, 1)),
      viewer.Box('detection', (0, 0, 1, 1), '0.9'),
      viewer.Box('detection', (0, 0, 1, 1), '0.5'),
    )
    self.assertEqual(
      scan['frames'][0]['words'],
      'Slice 1: 1 true box, 2 detections (0.9; 0.5)',
    )
    self.assertEqual(_context()['frames'][0]['words'], 'Slice 1: no box')
    self.assertEqual(
      [item['words'] for item in scan['legend']],
      ['1 true box', '0 ignored findings', '2 detections',
       '0 suppressed doubles'],
    )  # fmt: skip

  def test_ticks_run_along_the_slider(self):
    scan = _context(viewer.Box('detection', (0, 0, 1, 1)), frames=3)
    self.assertEqual(
      scan['ticks'],
      [('detection', '0'), ('detection', '50'), ('detection', '100')],
    )


class PageTest(absltest.TestCase):
  def render(self, *scans):
    shown = viewer.Viewer('Slices', scans, 'To be scrolled.')
    text = page.render(pages.results(), [shown])
    checked = pages.Checker(text)
    self.assertEmpty(checked.stack)
    return text, checked

  def test_one_frame_is_seen_without_a_script(self):
    text, _ = self.render(_scan(3))
    frames = re.findall(r'<div class="frame"[^>]*>', text)
    self.assertLen(frames, 3)
    self.assertEqual([' hidden' in tag for tag in frames], [True, False, True])
    self.assertIn(
      'disabled', re.search(r'<input class="slider"[^>]*>', text)[0]
    )
    self.assertIn('To be scrolled.', text)

  def test_one_picture_has_nothing_to_scroll(self):
    text, _ = self.render(_scan(1, opening=0))
    self.assertNotIn('class="slider"', text)

  def test_needs_nothing_beside_it(self):
    text, checked = self.render(_scan(2, [viewer.Box('truth', (0, 0, 9, 9))]))
    self.assertLen(checked.links, 2)
    for i, link in enumerate(checked.links):
      data = base64.b64decode(link.removeprefix('data:image/jpeg;base64,'))
      self.assertEqual(data, b'jpeg %d' % i)
    self.assertNotRegex(text, r'https?://|url\(|@import|<link')

  def test_only_its_own_script_may_run(self):
    text, _ = self.render(_scan())
    (script,) = re.findall('<script>(.*?)</script>', text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    self.assertIn(f"script-src 'sha256-{digest}'", text)

  def test_is_escaped(self):
    evil = '<script>alert("x")</script>'
    box = viewer.Box('detection', (0, 0, 9, 9), evil)
    text, _ = self.render(_scan(1, [box], 0, evil))
    self.assertNotIn('<script>alert', text)

  def test_a_page_without_a_viewer_runs_no_script(self):
    for figures in ([], [viewer.Viewer('V', [])]):
      text = page.render(pages.results(), figures)
      self.assertNotIn('script', text)


if __name__ == '__main__':
  absltest.main()
