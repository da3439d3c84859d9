"""The ops and losses of Mask R-CNN beside torchvision's, to 1e-5."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.losses import mask_rcnn
from medzoo.ops import anchors
from medzoo.ops import box_coder
from medzoo.ops import boxes as box_ops
from medzoo.ops import masks
from medzoo.ops import matching
from medzoo.ops import nms_boxes
from medzoo.ops import proposals
from medzoo.ops import roi_align
from tests import torch_reference

# Torchvision's corners are x0, y0, x1, y1 and its deltas dx, dy, dw, dh.
_SWAP = [1, 0, 3, 2]


def _boxes(rng, count, size=200.0):
  low = rng.uniform(-0.1, 0.9, (count, 2)) * size
  side = np.exp(rng.uniform(np.log(2), np.log(size), (count, 2)))
  return np.concatenate([low, low + side], -1).astype(np.float32)


def _draw(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


class ParityTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.torch, self.torchvision = torch_reference.detection()
    self.rng = np.random.default_rng(0)

  def _reading(self, boxes, shape):
    """Keeps boxes where torchvision's RoIAlign is ours.

    Compiled, it reads what lies outside as 0 and not as the edge.
    """
    if self.torchvision.extension._has_ops():
      return box_ops.clip(boxes, shape)
    return boxes

  def _torch(self, array):
    return self.torch.from_numpy(np.array(array))

  def _swapped(self, boxes):
    """Brings boxes or deltas to torchvision's order, or back."""
    return self._torch(np.asarray(boxes)[..., _SWAP])

  def test_anchors(self):
    anchor_utils = self.torchvision.models.detection.anchor_utils
    sizes, ratios = ((32,), (64,), (25, 51)), ((0.5, 1.0, 2.0),) * 3
    generator = anchor_utils.AnchorGenerator(sizes, ratios)
    shapes, image = [(25, 34), (13, 17), (7, 9)], (200, 272)
    images = anchor_utils.ImageList(self.torch.zeros(1, 3, *image), [image])
    theirs = generator(images, [self.torch.zeros(1, 1, *s) for s in shapes])
    ours = np.concatenate(
      [
        anchors.grid(s, (200 // s[0], 272 // s[1]), *settings)
        for s, *settings in zip(shapes, sizes, ratios, strict=True)
      ]
    )
    np.testing.assert_array_equal(ours, theirs[0].numpy()[:, _SWAP])

  def test_coder(self):
    coder = self.torchvision.models.detection._utils.BoxCoder((10, 10, 5, 5))
    boxes, others = _boxes(self.rng, 50), _boxes(self.rng, 50)
    theirs = coder.encode_single(self._swapped(boxes), self._swapped(others))
    ours = box_coder.encode(*map(jnp.asarray, (boxes, others)), (10, 10, 5, 5))
    np.testing.assert_allclose(
      ours, theirs.numpy()[:, _SWAP], rtol=1e-5, atol=1e-5
    )
    # Some stretch more than the limit.
    deltas = 8 * _draw(self.rng, 50, 4)
    theirs = coder.decode_single(self._swapped(deltas), self._swapped(others))
    ours = box_coder.decode(*map(jnp.asarray, (deltas, others)), (10, 10, 5, 5))
    np.testing.assert_allclose(
      ours, theirs.numpy()[:, _SWAP], rtol=1e-5, atol=1e-3
    )

  @parameterized.parameters(False, True)
  def test_matcher(self, low_quality):
    utils = self.torchvision.models.detection._utils
    truths, found = _boxes(self.rng, 6), _boxes(self.rng, 400)
    iou = box_ops.iou(truths, found)
    theirs = utils.Matcher(0.5, 0.3, low_quality)(self._torch(iou))
    ours = matching.match(
      jnp.asarray(iou), jnp.ones(6, bool), 0.5, 0.3, low_quality
    )
    np.testing.assert_array_equal(ours, theirs.numpy())
    self.assertSameElements(np.sign(ours + 1), [-1, 0, 1])

  def test_nms(self):
    boxes = _boxes(self.rng, 300, 60.0)
    scores = self.rng.permutation(300).astype(np.float32) / 300
    groups = self.rng.integers(0, 3, 300).astype(np.int32)
    b, s = self._swapped(boxes), self._torch(scores)
    everything = jnp.ones(300, bool)
    theirs = self.torchvision.ops.nms(b, s, 0.4).numpy()
    ours, valid = nms_boxes.nms(
      *map(jnp.asarray, (boxes, scores)), 0.4, 300, everything
    )
    np.testing.assert_array_equal(ours[valid], theirs)
    self.assertBetween(len(theirs), 10, 250)
    theirs = self.torchvision.ops.batched_nms(b, s, self._torch(groups), 0.4)
    ours, valid = nms_boxes.batched(
      *map(jnp.asarray, (boxes, scores, groups)), 0.4, 300, everything
    )
    np.testing.assert_array_equal(ours[valid], theirs.numpy())

  @parameterized.product(aligned=(False, True), ratio=(1, 2, 3))
  def test_roi_align(self, aligned, ratio):
    map_, boxes = _draw(self.rng, 25, 31, 3), _boxes(self.rng, 40)
    boxes = self._reading(boxes, (200, 248))
    weights = _draw(self.rng, 40, 5, 5, 3)
    x = self._torch(map_.transpose(2, 0, 1)[None]).requires_grad_()
    theirs = self.torchvision.ops.roi_align(
      x, [self._swapped(boxes)], 5, 1 / 8, ratio, aligned
    )
    theirs.backward(self._torch(weights.transpose(0, 3, 1, 2)))
    ours, vjp = jax.vjp(
      lambda f: roi_align.roi_align(
        f, jnp.asarray(boxes), 8, 5, ratio, aligned
      ),
      jnp.asarray(map_),
    )
    np.testing.assert_allclose(
      ours, theirs.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5
    )
    grad = x.grad.numpy()[0].transpose(1, 2, 0)
    np.testing.assert_allclose(
      vjp(jnp.asarray(weights))[0], grad, atol=1e-5 * np.abs(grad).max()
    )

  def test_multilevel(self):
    maps = [_draw(self.rng, 1, 2, 128 >> i, 96 >> i) for i in range(4)]
    boxes = self._reading(_boxes(self.rng, 60, 400.0), (512, 384))
    pool = self.torchvision.ops.MultiScaleRoIAlign(list('0123'), 7, 2)
    features = {str(i): self._torch(map_) for i, map_ in enumerate(maps)}
    theirs = pool(features, [self._swapped(boxes)], [(512, 384)])
    ours = roi_align.multilevel(
      [jnp.asarray(map_[0].transpose(1, 2, 0)) for map_ in maps],
      (4, 8, 16, 32),
      jnp.asarray(boxes),
      7,
      2,
      False,
    )
    # Of the largest value, as places of a hundred cells round to 1e-5 cells.
    theirs = theirs.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())

  def test_masks(self):
    heads = self.torchvision.models.detection.roi_heads
    layers = self.rng.uniform(size=(3, 90, 100)) < 0.5
    boxes = box_ops.clip(_boxes(self.rng, 20, 90.0), (90, 100))
    matches = self.rng.integers(0, 3, 20)
    theirs = heads.project_masks_on_boxes(
      self._torch(layers), self._swapped(boxes), self._torch(matches), 14
    )
    ours = masks.crop(jnp.asarray(layers[matches]), jnp.asarray(boxes), 14)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
    small, boxes = self.rng.uniform(size=(20, 28, 28)), _boxes(self.rng, 20, 90)
    small = small.astype(np.float32)
    theirs = heads.paste_masks_in_image(
      self._torch(small)[:, None], self._swapped(boxes), (70, 90)
    )
    ours = masks.paste(*map(jnp.asarray, (small, boxes)), (70, 90))
    np.testing.assert_allclose(ours, theirs.numpy()[:, 0], atol=1e-5)

  def test_proposals(self):
    shape, sizes = (120, 160), ((12, 16), (6, 8))
    levels = [
      anchors.grid(size, 10 * 2**i, [24 * 2**i], [0.5, 1, 2])
      for i, size in enumerate(sizes)
    ]
    logits = [3 * _draw(self.rng, len(a)) for a in levels]
    deltas = [0.4 * _draw(self.rng, *a.shape) for a in levels]
    coder = self.torchvision.models.detection._utils.BoxCoder((1,) * 4)
    decoded = coder.decode_single(
      *(self._swapped(np.concatenate(x)) for x in (deltas, levels))
    )
    network = self.torchvision.models.detection.rpn.RegionProposalNetwork(
      None, None, 0.7, 0.3, 16, 0.5, {'training': 200}, {'training': 80}, 0.7
    )
    theirs, scores = network.filter_proposals(
      decoded[None],
      self._torch(np.concatenate(logits))[None],
      [shape],
      [len(a) for a in levels],
    )
    ours = proposals.select(
      *(list(map(jnp.asarray, x)) for x in (logits, deltas)),
      levels,
      shape,
      proposals.Settings(pre_nms=200, post_nms=80),
    )
    self.assertTrue(ours[2].all())
    np.testing.assert_allclose(
      ours[0], theirs[0].numpy()[:, _SWAP], rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(ours[1], scores[0].numpy(), rtol=1e-5)


class LossParityTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.torch, self.torchvision = torch_reference.detection()
    self.rng = np.random.default_rng(0)
    self.labels = self.rng.integers(0, 3, 30).astype(np.int32)
    self.targets = 0.3 * _draw(self.rng, 30, 4)

  def _grads(self, loss, *inputs):
    """Returns torch's gradients of a scalar."""
    return [g.numpy() for g in self.torch.autograd.grad(loss, inputs)]

  def _leaves(self, *arrays):
    return [self.torch.from_numpy(a).requires_grad_() for a in arrays]

  def test_rpn(self):
    logits, deltas = _draw(self.rng, 30), _draw(self.rng, 30, 4)
    rpn = self.torchvision.models.detection.rpn.RegionProposalNetwork(
      None, None, 0.7, 0.3, 16, 0.5, {}, {}, 0.7
    )
    is_valid = self.rng.uniform(size=30) < 0.6
    positive = self.labels > 0
    sampled = [
      [self.torch.from_numpy(x & is_valid)] for x in (positive, ~positive)
    ]
    rpn.fg_bg_sampler = lambda labels: sampled
    leaves = self._leaves(logits, deltas)
    theirs = rpn.compute_loss(
      *leaves,
      [self.torch.from_numpy(np.float32(positive))],
      [self.torch.from_numpy(self.targets)],
    )
    ours, grads = self._ours(
      lambda a, b: mask_rcnn.rpn(
        a, b, *map(jnp.asarray, (positive, self.targets, is_valid))
      ),
      (logits, deltas),
    )
    for name, loss in zip(('rpn_objectness', 'rpn_box'), theirs, strict=True):
      self.assertAlmostEqual(float(ours[name]), loss.item(), places=5)
    self._assert_close(grads, self._grads(sum(theirs), *leaves))

  def test_box_head(self):
    logits, deltas = _draw(self.rng, 30, 3), _draw(self.rng, 30, 3, 4)
    leaves = self._leaves(logits, deltas)
    theirs = self.torchvision.models.detection.roi_heads.fastrcnn_loss(
      leaves[0],
      leaves[1].flatten(1),
      [self.torch.from_numpy(self.labels.astype(np.int64))],
      [self.torch.from_numpy(self.targets)],
    )
    labels, targets = map(jnp.asarray, (self.labels, self.targets))
    ours, grads = self._ours(
      lambda a, b: mask_rcnn.box_head(
        a, b, labels, targets, jnp.ones(30, bool)
      ),
      (logits, deltas),
    )
    for name, loss in zip(('classification', 'box'), theirs, strict=True):
      self.assertAlmostEqual(float(ours[name]), loss.item(), places=5)
    self._assert_close(grads, self._grads(sum(theirs), *leaves))

  def test_mask_head(self):
    logits = _draw(self.rng, 30, 7, 7, 3)
    layers = self.rng.uniform(size=(4, 40, 40)) < 0.5
    classes = np.array([1, 2, 2, 1], np.int32)
    boxes = box_ops.clip(_boxes(self.rng, 30, 40.0), (40, 40))
    matches = self.rng.integers(0, 4, 30)
    (leaf,) = self._leaves(logits.transpose(0, 3, 1, 2).copy())
    tensor = self.torch.from_numpy
    theirs = self.torchvision.models.detection.roi_heads.maskrcnn_loss(
      leaf,
      [tensor(boxes[:, _SWAP])],
      [tensor(layers)],
      [tensor(classes.astype(np.int64))],
      [tensor(matches)],
    )
    targets = masks.crop(jnp.asarray(layers[matches]), jnp.asarray(boxes), 7)
    ours, grads = self._ours(
      lambda a: mask_rcnn.mask_head(
        a, jnp.asarray(classes[matches]), targets, jnp.ones(30, bool)
      ),
      (logits,),
    )
    self.assertAlmostEqual(float(ours['mask']), theirs.item(), places=5)
    expected = self._grads(theirs, leaf)[0].transpose(0, 2, 3, 1)
    self._assert_close(grads, [expected])

  def _ours(self, loss, inputs):
    """Returns our terms, and the gradients of their sum."""

    def total(*inputs):
      terms = loss(*inputs)
      return sum(terms.values()), terms

    everything = tuple(range(len(inputs)))
    (_, terms), grads = jax.value_and_grad(total, everything, has_aux=True)(
      *map(jnp.asarray, inputs)
    )
    return terms, grads

  def _assert_close(self, found, expected):
    for ours, theirs in zip(found, expected, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-6)


if __name__ == '__main__':
  absltest.main()
