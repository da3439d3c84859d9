import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets.openi_cxr import marks


class MarksTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'nodules.csv'

  def test_boxes_span_the_pixels_of_a_nodule(self):
    self.path.write_text(
      'image,y,x,diameter_px\nCXR1_1,10,20,4\nCXR2_1,5.5,6,3\nCXR1_1,1,1,2\n'
    )
    found = marks.read_table(self.path)
    self.assertEqual(list(found), ['CXR1_1', 'CXR2_1'])
    # Pixel 10 spans 10 to 11, so its centre is 10.5.
    np.testing.assert_array_equal(
      found['CXR1_1'].corners, [[8.5, 18.5, 12.5, 22.5], [0.5, 0.5, 2.5, 2.5]]
    )
    np.testing.assert_array_equal(found['CXR1_1'].findings, [0, 1])
    np.testing.assert_array_equal(found['CXR2_1'].corners, [[4.5, 5, 7.5, 8]])

  @parameterized.parameters(
    ('image,y,x\na,1,2\n', 'columns'),
    ('image,y,x,diameter_px\na,1,2,\n', ':2: found'),
    ('image,y,x,diameter_px\na,1,2,0\n', ':2: found'),
    ('image,y,x,diameter_px\na,1,nan,3\n', ':2: found'),
    ('image,y,x,diameter_px\na,1,1,1\n,1,2,3\n', ':3: found'),
  )
  def test_refuses(self, text, words):
    self.path.write_text(text)
    with self.assertRaisesRegex(ValueError, f'nodules.csv.*{words}'):
      marks.read_table(self.path)

  def test_a_missing_table_is_named(self):
    with self.assertRaisesRegex(ValueError, 'nodules.csv: found no such file'):
      marks.read_table(self.path)


if __name__ == '__main__':
  absltest.main()
