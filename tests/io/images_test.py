import pathlib
import struct
import zlib

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from PIL import TiffImagePlugin

from medzoo.io import images

_GREY = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
_COLOUR = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)


def _tiff(pixels, photometric, *, order='<', planar=1, extra=False):
  """Returns an uncompressed TIFF, a strip a plane, written by hand."""
  h, w, samples = pixels.shape
  planes = [pixels] if planar == 1 else list(np.moveaxis(pixels, -1, 0))
  strips = [np.ascontiguousarray(plane).tobytes() for plane in planes]
  body, arrays, start = b'', {}, 8
  for name, values, letter in (
    ('bits', [8] * samples, 'H'),
    ('offsets', None, 'I'),
    ('sizes', [len(strip) for strip in strips], 'I'),
  ):
    if name == 'offsets':
      # What lies before the strips: both arrays of their places and sizes.
      first = start + len(body) + 8 * len(strips)
      values = [first + i * len(strips[0]) for i in range(len(strips))]
    arrays[name] = start + len(body), values
    body += struct.pack(f'{order}{len(values)}{letter}', *values)
  body += b''.join(strips)
  entries = [
    (256, 4, 1, w),
    (257, 4, 1, h),
    (258, 3, samples, arrays['bits'][0]),
    (259, 3, 1, 1),
    (262, 3, 1, photometric),
    _array_entry(273, *arrays['offsets']),
    (277, 3, 1, samples),
    (278, 4, 1, h),
    _array_entry(279, *arrays['sizes']),
    (284, 3, 1, planar),
  ] + [(338, 3, 1, 0)] * extra
  directory = struct.pack(f'{order}H', len(entries))
  for tag, kind, count, value in entries:
    short = kind == 3 and count == 1
    directory += struct.pack(f'{order}HHI', tag, kind, count)
    directory += struct.pack(
      f'{order}HH' if short else f'{order}I',
      *((value, 0) if short else (value,)),
    )
  head = b'II*\0' if order == '<' else b'MM\0*'
  place = struct.pack(f'{order}I', start + len(body))
  return head + place + body + directory + b'\0\0\0\0'


def _array_entry(tag, place, values):
  return (tag, 4, len(values), values[0] if len(values) == 1 else place)


class ImagesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'picture'

  def save(self, image, kind, **options):
    image.save(self.path, kind, **options)
    return images.read(self.path)

  @parameterized.product(
    kind=('BMP', 'PNG', 'TIFF'), pixels=(_GREY, _COLOUR), suffix=('', '.jpg')
  )
  def test_pixels_return_by_content_not_by_name(self, kind, pixels, suffix):
    path = self.path.with_suffix(suffix)
    Image.fromarray(pixels).save(path, kind)
    read = images.read(path)
    self.assertEqual(read.dtype, np.uint8)
    np.testing.assert_array_equal(read, pixels)

  @parameterized.product(
    suffix=('.bmp', '.png', '.jpg', '.tif'), colours=(False, True)
  )
  def test_agrees_with_itk(self, suffix, colours):
    # Smooth, as JPEG's decoders may differ over colours finer than 2 pixels.
    pixels = np.add.outer(np.arange(24), [[0, 60, 90]] * 16).astype(np.uint8)
    path = self.path.with_suffix(suffix)
    image = sitk.GetImageFromArray(
      pixels if colours else pixels[..., 1], isVector=colours
    )
    sitk.WriteImage(image, path)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(path))
    read = images.read(path).astype(int)
    self.assertEqual(read.shape, (24, 16, 3) if colours else (24, 16))
    if expected.ndim > read.ndim:
      # ITK writes greys of BMP with a palette and reads them as colours.
      expected = expected[..., 0]
    near = 2 if suffix == '.jpg' else 0
    self.assertLessEqual(np.abs(read - expected).max(), near)

  def test_a_palette_becomes_colours(self):
    image = Image.fromarray(_GREY % 3, 'P')
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = np.arange(10, 100, 10).reshape(3, 3)[_GREY % 3]
    np.testing.assert_array_equal(self.save(image, 'PNG'), expected)
    # Transparency a level, which Pillow keeps as bytes.
    read = self.save(image, 'PNG', transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(read, expected)

  def test_two_levels_become_black_and_white(self):
    read = self.save(Image.fromarray(_GREY > 99), 'PNG')
    np.testing.assert_array_equal(read, 255 * (_GREY > 99))

  def test_transparency_shows_what_is_stored_below(self):
    alpha = _GREY[..., None] % 2 * 255
    for pixels in (_GREY[..., None], _COLOUR):
      image = Image.fromarray(np.concatenate([pixels, alpha], -1))
      read = self.save(image, 'PNG')
      np.testing.assert_array_equal(read, pixels.squeeze())

  def test_a_note_to_turn_the_picture_is_not_followed(self):
    exif = Image.Exif()
    exif[0x0112] = 6
    read = self.save(Image.fromarray(_GREY), 'PNG', exif=exif)
    np.testing.assert_array_equal(read, _GREY)

  @parameterized.parameters('PNG', 'TIFF')
  def test_deep_greys_are_refused(self, kind):
    with self.assertRaisesRegex(ValueError, 'picture: found greys of more .*I'):
      self.save(Image.fromarray(_GREY.astype(np.uint16) * 16), kind)

  @parameterized.product(kind=('PNG', 'TIFF'), order=('<', '>'))
  def test_deep_greys_return_where_asked_for(self, kind, order):
    pixels = _GREY.astype(np.uint16) * 257
    mode = 'I;16' if order == '<' else 'I;16B'
    data = pixels.astype(f'{order}u2').tobytes()
    Image.frombytes(mode, pixels.shape[::-1], data).save(self.path, kind)
    for read in (
      images.read(self.path, deep=True),
      images.read_labels(self.path),
    ):
      self.assertEqual(read.dtype, np.uint16)
      np.testing.assert_array_equal(read, pixels)

  def test_a_deep_tiff_whose_0_is_white_is_turned_round(self):
    pixels = _GREY.astype(np.uint16) * 257
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    # Pillow turns shallow ones round by itself, in both directions.
    for stored, expected in ((pixels, 65535 - pixels), (_GREY, _GREY)):
      Image.fromarray(stored).save(self.path, 'TIFF', tiffinfo=tags)
      with Image.open(self.path) as image:
        self.assertEqual(image.tag_v2[262], 0)
      read = images.read(self.path, deep=True)
      np.testing.assert_array_equal(read, expected)

  def test_wider_greys_are_refused_even_then(self):
    Image.fromarray(_GREY.astype(np.float32)).save(self.path, 'TIFF')
    with self.assertRaisesRegex(ValueError, 'found greys of more than 16 bits'):
      images.read(self.path, deep=True)

  def test_labels_are_numbers_not_colours(self):
    labels = _GREY % 3
    palette = Image.fromarray(labels, 'P')
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 90, 0])
    grey = Image.fromarray(labels)
    for image in (palette, grey, grey.convert('RGB'), grey.convert('LA')):
      image.save(self.path, 'PNG')
      np.testing.assert_array_equal(images.read_labels(self.path), labels)
    Image.fromarray(labels > 0).save(self.path, 'PNG')
    np.testing.assert_array_equal(images.read_labels(self.path), labels > 0)
    Image.fromarray(_COLOUR).save(self.path, 'PNG')
    with self.assertRaisesRegex(ValueError, 'picture: found colours, expected'):
      images.read_labels(self.path)

  @parameterized.product(order=('<', '>'), planar=(1, 2), photometric=(1, 2))
  def test_colours_called_grey_are_read_as_colours(self, photometric, **kinds):
    self.path.write_bytes(_tiff(_COLOUR, photometric, **kinds))
    np.testing.assert_array_equal(images.read(self.path), _COLOUR)
    self.path.write_bytes(_tiff(_COLOUR, photometric, **kinds)[:-60])
    with self.assertRaisesRegex(ValueError, 'picture: found what cannot be'):
      images.read(self.path)

  def test_greys_with_what_is_no_colour_are_no_colours(self):
    self.path.write_bytes(_tiff(_COLOUR, 1, extra=True))
    with self.assertRaisesRegex(ValueError, 'picture: found what cannot be'):
      images.read(self.path)

  def test_a_pile_of_pictures_is_refused(self):
    page = Image.fromarray(_GREY)
    with self.assertRaisesRegex(ValueError, 'found 2 pictures in one file'):
      self.save(page, 'TIFF', save_all=True, append_images=[page])

  @parameterized.parameters(9_000, 100_000)
  def test_a_bomb_is_refused_by_its_header(self, side):
    header = struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0)
    chunk = b'IHDR' + header
    size, check = struct.pack('>I', 13), struct.pack('>I', zlib.crc32(chunk))
    end = b'\0\0\0\0IEND\xaeB`\x82'
    self.path.write_bytes(b'\x89PNG\r\n\x1a\n' + size + chunk + check + end)
    with self.assertRaisesRegex(ValueError, 'picture: found more than 6710886'):
      images.read(self.path)

  @parameterized.parameters(b'', b'%!PS-Adobe-3.0 EPSF-3.0\n', b'GIF89a', b'BM')
  def test_what_is_no_picture_is_named(self, content):
    self.path.write_bytes(content)
    with self.assertRaisesRegex(ValueError, 'picture: found what cannot be'):
      images.read(self.path)
    with self.assertRaisesRegex(ValueError, 'absent: found what cannot be re'):
      images.read(self.path.with_name('absent'))

  @parameterized.parameters('BMP', 'PNG', 'JPEG', 'TIFF', None)
  def test_damage_is_an_error_of_one_line_or_none(self, kind):
    if kind:
      Image.fromarray(_COLOUR).save(self.path, kind)
    else:
      self.path.write_bytes(_tiff(_COLOUR, 1))
    whole = np.frombuffer(self.path.read_bytes(), np.uint8)
    random = np.random.default_rng(2)
    for _ in range(300):
      broken = whole[: random.integers(1, len(whole) + 1)].copy()
      at = random.integers(0, len(broken), 3)
      broken[at] = random.integers(0, 256, 3)
      self.path.write_bytes(broken.tobytes())
      try:
        read = images.read(self.path)
      except ValueError as error:
        self.assertStartsWith(str(error), f'{self.path}: found ')
        self.assertNotIn('\n', str(error))
      else:
        self.assertEqual(read.dtype, np.uint8)


if __name__ == '__main__':
  absltest.main()
