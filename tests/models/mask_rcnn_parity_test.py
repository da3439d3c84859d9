"""Mask R-CNN beside torchvision's, stage by stage and end to end."""

import math
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.losses import mask_rcnn as losses
from medzoo.models import mask_rcnn_forward
from medzoo.models import mask_rcnn_steps as steps
from medzoo.ops import proposals
from medzoo.predictors import mask_rcnn
from tests import torch_reference

# Torch's order of boxes and deltas is by x before y.
_ORDER = [1, 0, 3, 2]
_CLASSES = 5
_MIN_SIDE, _MAX_SIDE = 128, 224
_PROPOSALS = 60


def _image(seed, height, width):
  """Draws an image of soft blotches in [0, 1]."""
  rng = np.random.default_rng(seed)
  coarse = rng.random((height // 8 + 1, width // 8 + 1, 3))
  image = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
  return (0.7 * image + 0.3 * rng.random(image.shape)).astype(np.float32)


def _to_torch(images):
  return [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in images]


def _from_torch(x):
  return x.detach().numpy().transpose(0, 2, 3, 1)


def _network():
  """Builds torchvision's network, its outputs scaled to spread."""
  net = torch_reference.mask_rcnn(_CLASSES)
  net.transform.min_size, net.transform.max_size = (_MIN_SIDE,), _MAX_SIDE
  shapes = torch_reference.state_dict(net)
  drawn = torch_reference.tensors(shapes)
  net.load_state_dict({n: torch.from_numpy(t) for n, t in drawn.items()})
  net.rpn._post_nms_top_n = {'training': _PROPOSALS, 'testing': _PROPOSALS}
  images = _to_torch([_image(9, 96, 128)])
  for layer, spread in (
    (net.rpn.head.cls_logits, 2.0),
    (net.rpn.head.bbox_pred, 0.3),
    (net.roi_heads.box_predictor.cls_score, 1.5),
    (net.roi_heads.box_predictor.bbox_pred, 0.5),
    (net.roi_heads.mask_predictor.mask_fcn_logits, 2.0),
  ):
    _spread(net, layer, images, spread)
  return net


def _spread(net, layer, images, spread):
  """Scales a layer so that its outputs have mean 0 and a given deviation."""
  seen = []
  hook = layer.register_forward_hook(lambda _, __, y: seen.append(y))
  with torch.no_grad():
    net(images)
    hook.remove()
    flat = torch.cat([y.movedim(1, -1).reshape(-1, y.shape[1]) for y in seen])
    mean, deviation = flat.mean(0), flat.std(0)
    factor = spread / deviation.clamp(min=1e-6)
    layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.copy_((layer.bias - mean) * factor)


class ParityTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    global torch
    torch, _ = torch_reference.detection()
    cls.net = _network()
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'weights.pth'
      torch.save(cls.net.state_dict(), path)
      cls.model, cls.variables = mask_rcnn.load_torch(path)
    cls.preparation = mask_rcnn.Preparation(_MIN_SIDE, _MAX_SIDE)
    cls.settings = mask_rcnn_forward.Inference(
      proposals.Settings(post_nms=_PROPOSALS)
    )

  def _batch(self):
    """Returns torch's batch of two images, and ours, which is to be equal."""
    images = [_image(1, 100, 140), _image(2, 128, 90)]
    listed, _ = self.net.transform(_to_torch(images))
    sizes = jnp.array(listed.image_sizes)
    return listed, jnp.array(_from_torch(listed.tensors)), sizes

  def _features(self):
    listed, batch, sizes = self._batch()
    with torch.no_grad():
      theirs = self.net.backbone(listed.tensors)
    ours = jax.jit(
      lambda v, x: self.model.apply(v, x, train=False, method='features')
    )(self.variables, batch)
    return listed, batch.shape[1:3], sizes, theirs, ours

  def test_stages(self):
    """Each stage is given what torchvision's stage before it gave."""
    listed, shape, sizes, theirs, ours = self._features()
    for (name, level), expected in zip(
      ours.items(), theirs.values(), strict=True
    ):
      with self.subTest(name):
        _assert_close(level, _from_torch(expected), 1e-3)
    levels = {
      name: jnp.array(_from_torch(x))
      for name, x in zip(ours, theirs.values(), strict=True)
    }
    heads = self.net.roi_heads
    with torch.no_grad():
      rpn = self.net.rpn.head(list(theirs.values()))
      proposed, _ = self.net.rpn(listed, theirs)
      classes, moves = heads.box_predictor(
        heads.box_head(heads.box_roi_pool(theirs, proposed, listed.image_sizes))
      )
      found, _ = heads(theirs, proposed, listed.image_sizes)
    # All of one length, to be one array for us.
    self.assertEqual({len(x) for x in proposed}, {_PROPOSALS})
    boxes = jnp.array(torch.stack(proposed).numpy()[..., _ORDER])
    logits, deltas = jax.jit(
      lambda v, x: steps.run_head(self.model, v, 'rpn', x)
    )(self.variables, levels)
    for level, expected in zip(logits.values(), rpn[0], strict=True):
      _assert_close(level, _from_torch(expected), 1e-3)
    for level, expected in zip(deltas.values(), rpn[1], strict=True):
      expected = _from_torch(expected).reshape(level.shape)[..., _ORDER]
      _assert_close(level, expected, 1e-3)
    ours, _, valid = steps.propose(
      self.model, logits, deltas, shape, sizes, self.settings.proposals
    )
    self.assertTrue(valid.all())
    np.testing.assert_allclose(ours, boxes, atol=0.05)
    judged = jax.jit(
      lambda v, x, boxes: steps.judge(self.model, v, x, boxes, shape)
    )(self.variables, levels, boxes)
    _assert_close(
      judged[0].reshape(-1, _CLASSES), classes.detach().numpy(), 1e-3
    )
    expected = moves.detach().numpy().reshape(-1, _CLASSES, 4)[..., _ORDER]
    _assert_close(judged[1].reshape(expected.shape), expected, 1e-3)
    for i, one in enumerate(found):
      drawn = jax.jit(
        lambda v, x, boxes: steps.draw(self.model, v, x, boxes, shape)
      )(
        self.variables,
        {name: x[i : i + 1] for name, x in levels.items()},
        jnp.array(one['boxes'].numpy()[None, :, _ORDER]),
      )
      masks = steps.own_masks(drawn, jnp.array(one['labels'].numpy()[None]))
      np.testing.assert_allclose(masks[0], one['masks'][:, 0], atol=1e-3)

  def test_losses(self):
    """Samples hold all there is to sample, so both draw the same."""
    listed, batch, sizes = self._batch()
    shape = batch.shape[1:3]
    boxes = np.array(
      [
        [[10, 20, 90, 80], [30, 60, 120, 170]],
        [[5, 5, 100, 70], [0, 0, 0, 0]],
      ],
      np.float32,
    )
    labels = np.array([[1, 3], [2, 0]], np.int32)
    masks = np.zeros((2, 2, *shape), np.uint8)
    for i, j in zip(*np.nonzero(labels), strict=True):
      y0, x0, y1, x1 = boxes[i, j].astype(int)
      # Half a box and a corner, so that orders of axes matter.
      masks[i, j, y0 : (y0 + y1) // 2, x0:x1] = 1
      masks[i, j, y0:y1, x0 : x0 + 10] = 1
    num_anchors = 3 * sum(
      math.ceil(shape[0] / s) * math.ceil(shape[1] / s)
      for s in (4, 8, 16, 32, 64)
    )
    settings = mask_rcnn_forward.Training(
      proposals.Settings(pre_nms=2000, post_nms=_PROPOSALS),
      num_anchors=2 * num_anchors,
      num_regions=2 * (_PROPOSALS + 2),
      region_share=0.5,
    )

    def terms(variables):
      outputs, _ = mask_rcnn_forward.training_outputs(
        self.model,
        variables,
        batch,
        sizes,
        jnp.array(boxes),
        jnp.array(labels),
        jnp.array(masks),
        jax.random.key(0),
        settings,
        train=True,
      )
      return {
        **losses.rpn(**outputs['rpn']),
        **losses.box_head(**outputs['box_head']),
        **losses.mask_head(**outputs['mask_head']),
      }

    ours = jax.jit(terms)(self.variables)
    theirs = self._losses(listed, boxes, labels, masks, settings)
    self.assertSameElements(ours, theirs)
    for name, value in ours.items():
      with self.subTest(name):
        # Of the samples that hold everything few have a box to learn.
        self.assertGreater(theirs[name], 1e-4)
        self.assertLess(abs(value - theirs[name]), 1e-4 * theirs[name])

  def _losses(self, listed, boxes, labels, masks, settings):
    """Returns torchvision's losses, by our names."""
    net = self.net
    # Normalisation as it is when frozen; the other parts as in training.
    net.rpn.train()
    net.roi_heads.train()
    samplers = net.rpn.fg_bg_sampler, net.roi_heads.fg_bg_sampler
    old = [vars(sampler).copy() for sampler in samplers]
    samplers[0].batch_size_per_image = settings.num_anchors
    samplers[1].batch_size_per_image = settings.num_regions
    samplers[1].positive_fraction = settings.region_share
    targets = []
    for i, there in enumerate(labels > 0):
      targets.append(
        {
          'boxes': torch.from_numpy(boxes[i, there][:, _ORDER]),
          'labels': torch.from_numpy(labels[i, there]).long(),
          'masks': torch.from_numpy(masks[i, there]),
        }
      )
    try:
      with torch.no_grad():
        features = net.backbone(listed.tensors)
        proposed, rpn = net.rpn(listed, features, targets)
        _, heads = net.roi_heads(
          features, proposed, listed.image_sizes, targets
        )
    finally:
      net.eval()
      for sampler, values in zip(samplers, old, strict=True):
        vars(sampler).update(values)
    found = {name: float(x) for name, x in (rpn | heads).items()}
    names = {
      'loss_objectness': 'rpn_objectness',
      'loss_rpn_box_reg': 'rpn_box',
      'loss_classifier': 'classification',
      'loss_box_reg': 'box',
      'loss_mask': 'mask',
    }
    return {names[name]: value for name, value in found.items()}

  @parameterized.named_parameters(
    ('one', [(90, 120)]),
    ('two', [(110, 96), (80, 140)]),
    ('three', [(60, 130), (128, 128), (75, 66)]),
  )
  def test_end_to_end(self, shapes):
    images = [_image(10 + i, *shape) for i, shape in enumerate(shapes)]
    with torch.no_grad():
      theirs = self.net(_to_torch(images))
    ours = mask_rcnn.detect_all(
      self.model, self.variables, images, self.settings, self.preparation
    )
    count = matched = 0
    for found, expected, shape in zip(ours, theirs, shapes, strict=True):
      expected = {name: x.numpy() for name, x in expected.items()}
      self.assertGreater(len(expected['scores']), 20)
      self.assertGreater(np.ptp(expected['scores']), 0.2)
      self.assertEqual(found['masks'].shape[1:], shape)
      count += max(len(expected['scores']), len(found['scores']))
      matched += _matched(found, expected)
    self.assertGreaterEqual(matched / count, 0.99)


def _matched(found, expected):
  """Counts detections of torchvision's that we have, each once."""
  free = np.ones(len(found['scores']), bool)
  for box, score, label, mask in zip(
    expected['boxes'][:, _ORDER],
    expected['scores'],
    expected['labels'],
    expected['masks'][:, 0],
    strict=True,
  ):
    off = np.abs(found['boxes'] - box).max(1)
    fits = free & (found['labels'] == label) & (off <= 0.5)
    fits &= np.abs(found['scores'] - score) <= 1e-3
    for i in np.flatnonzero(fits):
      a, b = mask >= 0.5, found['masks'][i] >= 0.5
      if (a & b).sum() >= 0.99 * (a | b).sum():
        free[i] = False
        break
  return (~free).sum()


def _assert_close(found, expected, tolerance):
  """Compares to a share of the largest value, as sums round in their size."""
  largest = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(
    np.asarray(found) / largest, expected / largest, atol=tolerance, rtol=0
  )


if __name__ == '__main__':
  absltest.main()
