"""What every test shares: parsed flags, and where the real data lie."""

import importlib.metadata
import os
import pathlib

import pytest
from absl import flags

# What a test compiles it runs once or twice, so quick compiling is worth more
# than quick programs. Read when JAX is imported, here and in processes started.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
# The compiler's older emitters take a third of the time. A jaxlib that does not
# know a flag ends the process, so only one that was tried is given these.
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  os.environ.setdefault(
    'XLA_FLAGS',
    '--xla_cpu_use_fusion_emitters=false'
    ' --xla_cpu_parallel_codegen_split_count=1',
  )

# grain's worker processes refuse to start while absl's flags are unparsed.
flags.FLAGS.mark_as_parsed()

_ROOT = pathlib.Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
  """Names the folder of real data; tests that need it skip without it."""
  del config
  default = _ROOT.parent / 'shared' / 'data'
  os.environ.setdefault('MEDZOO_TEST_DATA', str(default))
