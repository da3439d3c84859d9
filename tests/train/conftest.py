"""Lets the tests of this folder share what they compile, most of their time."""

import pytest

from tests.train import tiny


@pytest.fixture(scope='package', autouse=True)
def _compilation_cache(tmp_path_factory):
  with tiny.compilation_cache(str(tmp_path_factory.mktemp('cache'))):
    yield
