import hashlib
import io
import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from datasets import build
from datasets import cases
from medzoo.data import sources

_ALL = {'shares': {'train': 1}}
_NODULE = 'Nodule/lung/upper lobe/right'


def _greys(seed=0, shape=(8, 6)):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _png(seed=0):
  file = io.BytesIO()
  Image.fromarray(_greys(seed)).save(file, 'PNG')
  return file.getvalue()


def _report(uid, terms, images, more=''):
  """Writes a report as the archive has it; images are name -> caption."""
  pictures = ''.join(
    f'<parentImage id="{name}"><figureId>F1</figureId>'
    f'<caption>{caption}</caption></parentImage>'
    for name, caption in images.items()
  )
  majors = ''.join(f'<major>{term}</major>' for term in terms)
  return (
    f'<?xml version="1.0" encoding="utf-8"?><eCitation><meta type="rr"/>{more}'
    f'<uId id="{uid}"/><MedlineCitation><Article><Abstract>'
    '<AbstractText Label="FINDINGS">A nodule. &amp;c.</AbstractText>'
    f'</Abstract></Article></MedlineCitation>{pictures}<MeSH>{majors}'
    '<automatic>nodule</automatic></MeSH></eCitation>'
  )


class _OpeniTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def write(self, name, content):
    path = self.raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
      content if isinstance(content, bytes) else content.encode()
    )

  def study(self, n, terms, images=('1001', '2001'), caption='PA and lateral'):
    """Writes a study in the official layout, and returns its films' keys."""
    names = [f'CXR{n}_IM-{n:04}-{image}' for image in images]
    text = _report(f'CXR{n}', terms, dict.fromkeys(names, caption))
    self.write(f'NLMCXR_reports/ecgen-radiology/{n}.xml', text)
    for i, name in enumerate(names):
      self.write(f'NLMCXR_png/{name}.png', _png(100 * n + i))
    return [f'NLMCXR_png/{name}.png' for name in names]

  def scraped(self, entries, name='data_new.json', pictures=True):
    """Writes the layout of a scraper; entries are n -> (address, terms)."""
    self.write(
      name,
      json.dumps(
        {
          n: {'type': 'Major', 'items': terms, 'img': address}
          for n, (address, terms) in entries.items()
        }
      ),
    )
    for n in entries if pictures else ():
      self.write(f'{n}.png', _png(int(n)))

  def prepare(self, **options):
    directory = build.prepare(
      'openi_cxr',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = pathlib.Path(directory, 'build_report.json').read_text()
    return directory, json.loads(report)

  def read(self, **options):
    """Returns labels by key, and the report."""
    directory, report = self.prepare(**(_ALL | options))
    found = sources.open_cases(directory, 'all')
    return dict(zip(found.keys, found.labels, strict=True)), report

  def left_out(self, report):
    return {x['series']: x['code'] for x in report['left_out_cases']}


class OfficialLayoutTest(_OpeniTest):
  def test_films_of_both_classes_are_read(self):
    normal = self.study(1, ['normal'])
    nodule = self.study(2, [_NODULE, 'Calcinosis/aorta'])
    self.study(3, ['Cardiomegaly/mild'])
    directory, report = self.prepare(**_ALL)
    found = sources.open_cases(directory, 'all')
    self.assertEqual(found.keys, [*normal, *nodule])
    self.assertEqual(found.labels, [0, 0, 1, 1])
    self.assertEqual(
      found.groups, [cases.pseudonym(x) for x in ('CXR1',) * 2 + ('CXR2',) * 2]
    )
    np.testing.assert_array_equal(found[3].volume.voxels, _greys(201)[None])
    self.assertIsNone(found[3].masks)
    self.assertEqual(
      [found.record(i)['terms'].decode() for i in (0, 2)],
      ['normal', f'{_NODULE}|Calcinosis/aorta'],
    )
    self.assertEqual(report['classes'], ['nodule'])
    self.assertEqual(report['background'], 'normal')
    self.assertEqual(report['left_out'], {'other_finding': 2})
    self.assertIn('official layout, 3 reports', report['notes'])
    self.assertIn('groups are 2 studies, 1 of them positive', report['notes'])

  @parameterized.parameters(
    (['Nodule'], 1),
    (['nodule/lung'], 1),
    (['Cardiomegaly/mild', ' NODULE /lung'], 1),
    (['normal'], 0),
    (['Normal', 'normal'], 0),
    (['Calcinosisnodule'], 'other_finding'),
    (['Calcinosis/lung/nodule'], 'other_finding'),
    (['Nodules'], 'other_finding'),
    (['Lung/normal'], 'other_finding'),
    (['normal', 'Scoliosis'], 'other_finding'),
    (['normal', _NODULE], 'contradiction'),
    ([], 'no_terms'),
    (['No Indexing'], 'no_terms'),
  )
  def test_whole_headings_make_classes(self, terms, expected):
    (key,) = self.study(1, terms, ['1001'])
    other = self.study(2, ['normal'], ['1001'])[0]
    found, report = self.read()
    told = found | self.left_out(report)
    self.assertEqual(told, {key: expected, other: 0})

  def test_other_headings_make_other_classes(self):
    mass, nodule, clear, scar = (
      self.study(n, terms, ['1001'])[0]
      for n, terms in enumerate(
        (['Mass/lung'], [_NODULE], ['No finding'], ['Cicatrix/lung'])
      )
    )
    found, report = self.read(
      positive=('mass', 'Nodule'), negative=('no finding', 'cicatrix')
    )
    self.assertEqual(found, {mass: 1, nodule: 1, clear: 0, scar: 0})
    self.assertEqual(report['classes'], ['mass or Nodule'])

  def test_two_films_of_one_study_never_part(self):
    for n in range(40):
      terms = [_NODULE] if n % 4 == 0 else ['normal']
      self.study(n, terms, [f'{i}001' for i in range(1 + n % 3)])
    directory, _ = self.prepare()
    met, positive = {}, {}
    for split in ('train', 'validation', 'test'):
      part = sources.open_cases(directory, split)
      self.assertLen(set(part.keys), len(part))
      positive[split] = sum(part.labels) / len(part)
      for key in part.keys:
        met.setdefault(key.partition('_IM')[0], set()).add(split)
    self.assertLen(met, 40)
    self.assertEqual({len(x) for x in met.values()}, {1})
    # Divided class by class, each split has about as many positive films.
    self.assertGreater(min(positive.values()), 0.1)
    self.assertLess(max(positive.values()), 0.5)

  def test_a_report_tells_the_study_of_nameless_films(self):
    names = ('lateral', 'CXR5_IM-0005-1001', 'oblique')
    self.write('5.xml', _report('5', ['normal'], dict.fromkeys(names, '')))
    for name in names:
      self.write(f'{name}.png', _png())
    directory, _ = self.prepare(**_ALL)
    groups = sources.open_cases(directory, 'all').groups
    self.assertEqual(groups, [cases.pseudonym('CXR5')] * 3)

  def test_a_tables_splits_are_kept(self):
    films = [self.study(n, ['normal'])[0] for n in range(4)]
    self.write(
      'splits.csv', '\ufeffstudy,split\nCXR0,test\nCXR1,train\nCXR2,val\n'
    )
    directory, report = self.prepare()
    for split, film in zip(
      ('test', 'train', 'validation'), films, strict=False
    ):
      keys = sources.open_cases(directory, split).keys
      self.assertLen(keys, 2)
      self.assertEqual(keys[0], film)
    self.assertEqual(report['left_out'], {'no_split': 2})

  @parameterized.parameters(
    ('study,part\n', 'columns'),
    ('study,split\nCXR1,dev\n', "csv:2: found study 'CXR1' and split 'dev'"),
    ('study,split\nCXR1,test\nCXR1,train\n', "csv:3: found split 'train'"),
  )
  def test_a_bad_table_is_named(self, text, message):
    self.study(1, ['normal'])
    self.write('splits.csv', text)
    with self.assertRaisesRegex(ValueError, message):
      self.prepare()

  def test_views_are_known_from_captions_and_the_table(self):
    a = self.study(1, ['normal'], ['1001'], 'Chest x-ray, AP portable.')[0]
    b = self.study(2, ['normal'], ['1001'], 'LATERAL view')[0]
    c, d = self.study(3, ['normal'], ['3001', '4001'])
    e, f = self.study(4, ['normal'])
    self.write(
      'indiana_projections.csv',
      'uid,filename,projection\n'
      '3,3_IM-0003-3001.dcm.png,Lateral\n3,3_IM-0003-4001.dcm.png,Frontal\n',
    )
    found, report = self.read(views=('frontal',))
    self.assertEqual(set(found), {a, d})
    self.assertEqual(
      self.left_out(report),
      {b: 'other_view', c: 'other_view', e: 'unknown_view', f: 'unknown_view'},
    )
    self.assertIn('views: 2 frontal, 2 lateral, 2 unknown', report['notes'])
    self.assertLen(self.read(views=('frontal', 'lateral'))[0], 4)
    self.assertLen(self.read()[0], 6)

  def test_what_is_amiss_is_left_out(self):
    good = self.study(1, ['normal'])
    broken, missing = self.study(2, ['normal'])
    path = self.raw / broken
    path.write_bytes(path.read_bytes()[:60])
    (self.raw / missing).unlink()
    self.write('NLMCXR_png/CXR9_IM-0009-1001.png', _png())
    twice = self.study(3, ['normal'], ['1001'])[0]
    self.write('more/CXR3_IM-0003-1001.png', _png())
    again = 'CXR4_IM-0004-1001'
    self.study(4, ['normal'], ['1001'])
    self.write('reports/5.xml', _report('CXR5', [_NODULE], {again: ''}))
    self.write('reports/6.xml', _report('', ['normal'], {'film': ''}))
    self.write('reports/7.xml', _report('CXR7', ['normal'], {'other': ''}))
    self.write('film.png', _png())
    self.write('other.png', _png())
    self.write('reports/8.xml', '<eCitation><uId id="CXR8"/>')
    self.write('notes.xml', '<notes/>')
    directory, report = self.prepare(**_ALL)
    found = sources.open_cases(directory, 'all')
    self.assertEqual(set(found.keys), {*good, 'other.png'})
    self.assertIn(cases.pseudonym('CXR7'), found.groups)
    self.assertEqual(
      self.left_out(report),
      {
        broken: 'unreadable',
        'CXR2_IM-0002-2001': 'missing',
        'NLMCXR_png/CXR9_IM-0009-1001.png': 'no_report',
        pathlib.Path(twice).stem: 'ambiguous_film',
        again: 'two_reports',
        'film': 'no_study',
        'reports/8.xml': 'broken_report',
      },
    )
    for line in report['left_out_cases']:
      self.assertNotIn('\n', line['detail'])
    self.assertIn('1 XML files are no reports', report['notes'])

  @parameterized.named_parameters(
    ('entities', '<!DOCTYPE x [<!ENTITY a "aa">]>', 'found a DOCTYPE'),
    ('outside', '<!DOCTYPE x SYSTEM "file:///etc/passwd">', 'a DOCTYPE'),
    ('deep', '<a>' * 99, 'nested deeper'),
    ('large', '<!--' + 'x' * (1 << 20) + '-->', 'more than 1 MB'),
    ('encoding', '<?xml version="1.0" encoding="UTF-99"?>', 'broken XML'),
  )
  def test_a_hostile_report_is_left_out(self, start, message):
    self.study(1, ['normal'])
    text = _report('CXR2', ['normal'], {'CXR2_IM-0002-1001': '&a;'})
    prolog, _, rest = text.partition('<eCitation>')
    inside = start.startswith(('<a>', '<!--'))
    text = (
      f'{prolog}<eCitation>{start}{rest}'
      if inside
      else f'{start}<eCitation>{rest}'
    )
    self.write('reports/2.xml', text)
    _, report = self.read()
    (problem,) = report['left_out_cases']
    self.assertEqual(problem['code'], 'broken_report')
    self.assertIn(message, problem['detail'])

  def test_a_film_that_changes_by_one_byte_is_built_anew(self):
    (key,) = self.study(1, ['normal'], ['1001'])
    first, _ = self.prepare(**_ALL)
    self.assertEqual(self.prepare(**_ALL)[0], first)
    path = self.raw / key
    size = path.stat().st_size
    values = _greys(100)
    for value in range(256):
      # Another grey, a file of the same size.
      values[0, 0] = value
      Image.fromarray(values).save(path)
      if value != _greys(100)[0, 0] and path.stat().st_size == size:
        break
    self.assertEqual(path.stat().st_size, size)
    self.assertNotEqual(self.prepare(**_ALL)[0], first)

  @parameterized.parameters(
    ({'positive': ()}, 'found positive ()'),
    ({'negative': 'normal'}, "found negative 'normal'"),
    ({'positive': ('Normal',)}, 'no heading in both'),
    ({'views': 'frontal'}, "found views 'frontal'"),
    ({'views': ('oblique',)}, 'expected a tuple of frontal, lateral'),
  )
  def test_a_bad_option_is_named(self, options, message):
    self.study(1, ['normal'])
    with self.assertRaises(ValueError) as raised:
      self.prepare(**options)
    self.assertIn(message, str(raised.exception))


class ScrapersLayoutTest(_OpeniTest):
  def address(self, name):
    return f'https://openi.nlm.nih.gov//imgs/512/1/1/{name}.png'

  def test_the_older_scrapers_files_are_read(self):
    self.scraped(
      {
        '3': (self.address('CXR1_1_IM-0001-3001'), ['normal']),
        '4': (self.address('CXR1_1_IM-0001-4001') + '?keywords=a', ['normal']),
        '60': (self.address('CXR22_IM-0017-1001'), ['Nodule /lung ', 'Mass']),
        '7': (self.address('CXR3_IM-0017-1001'), ['Opacity/lung']),
      }
    )
    directory, report = self.prepare(**_ALL)
    found = sources.open_cases(directory, 'all')
    self.assertEqual(found.keys, ['3.png', '4.png', '60.png'])
    self.assertEqual(found.labels, [0, 0, 1])
    self.assertEqual(
      found.groups, [cases.pseudonym(x) for x in ('CXR1', 'CXR1', 'CXR22')]
    )
    np.testing.assert_array_equal(found[2].volume.voxels, _greys(60)[None])
    self.assertEqual(found.record(2)['terms'].decode(), 'Nodule /lung|Mass')
    self.assertIn('layout of a scraper, data_new.json', report['notes'])

  def test_pictures_may_lie_elsewhere(self):
    self.scraped(
      {n: (self.address(f'CXR{n}_a'), ['normal']) for n in '123'},
      'json/datas.json',
      pictures=False,
    )
    for name in ('images/1.png', 'images/2.png', 'old/2.png', '../3.png'):
      self.write(name, _png())
    found, report = self.read()
    self.assertEqual(found, {'images/1.png': 0})
    self.assertEqual(
      self.left_out(report), {'2.png': 'ambiguous_film', '3.png': 'missing'}
    )

  def test_our_scrapers_keys_are_read(self):
    good = hashlib.sha256(_png(1)).hexdigest()
    entry = {'type': 'Major', 'items': ['normal'], 'img': self.address('a')}
    self.write(
      'data.json',
      json.dumps(
        {
          '1': entry | {'uid': 'CXR5', 'sha256': good, 'caption': 'PA view'},
          '2': entry
          | {'uid': 'CXR5', 'sha256': good, 'img': self.address('b')},
        }
      ),
    )
    self.write('1.png', _png(1))
    self.write('2.png', _png(2))
    directory, report = self.prepare(**_ALL)
    found = sources.open_cases(directory, 'all')
    self.assertEqual(found.groups, [cases.pseudonym('CXR5')])
    self.assertEqual(self.left_out(report), {'2.png': 'changed'})
    self.assertIn('views: 1 frontal, 1 unknown', report['notes'])

  def test_what_is_amiss_is_left_out(self):
    entries = {
      '1': {'items': ['normal'], 'img': self.address('CXR1_a')},
      '2': {'items': ['normal'], 'img': self.address('CXR1_a')},
      '3': {'items': ['normal'], 'img': self.address('thorax')},
      '4': {'items': 'normal', 'img': self.address('CXR4_a')},
      '5': ['normal'],
      '../6': {'items': ['normal'], 'img': self.address('CXR6_a')},
    }
    self.write('data.json', json.dumps(entries))
    for n in entries:
      self.write(f'x/{n}.png', _png())
    found, report = self.read()
    self.assertEqual(found, {'x/1.png': 0})
    self.assertEqual(
      self.left_out(report),
      {
        '2.png': 'duplicate',
        '3.png': 'no_study',
        '4.png': 'bad_entry',
        '5.png': 'bad_entry',
        '../6.png': 'missing',
      },
    )

  @parameterized.parameters('', '[]', '{', '[' * 100_000)
  def test_a_bad_list_is_named(self, text):
    self.write('data.json', text)
    with self.assertRaisesRegex(ValueError, 'data.json: found .*expected'):
      self.prepare()

  def test_unclear_layouts_are_refused(self):
    self.write('a.png', _png())
    with self.assertRaisesRegex(ValueError, 'found no reports; expected NLM'):
      self.prepare()
    self.study(1, ['normal'])
    self.scraped({'1': (self.address('CXR1_a'), ['normal'])})
    with self.assertRaisesRegex(ValueError, 'data_new.json and 1 reports in X'):
      self.prepare()
    (self.raw / 'NLMCXR_reports/ecgen-radiology/1.xml').unlink()
    self.assertLen(self.read()[0], 1)
    self.write('data.json', '{}')
    with self.assertRaisesRegex(ValueError, 'data.json and data_new.json, exp'):
      self.prepare()


if __name__ == '__main__':
  absltest.main()
