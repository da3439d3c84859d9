"""The most memory this process held, phase by phase."""

import contextlib
import pathlib
import resource
import sys

_STATUS = pathlib.Path('/proc/self/status')
_CLEAR = pathlib.Path('/proc/self/clear_refs')


def reset_peak() -> None:
  """Starts a new phase, where the system can (Linux)."""
  with contextlib.suppress(OSError):
    _CLEAR.write_text('5')


def peak_mb() -> int:
  """Returns the peak of resident memory since the last `reset_peak`, MiB.

  Where the system keeps no resettable peak it is that of the whole process.
  """
  with contextlib.suppress(OSError):
    for line in _STATUS.read_text().splitlines():
      if line.startswith('VmHWM:'):
        return int(line.split()[1]) // 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak // (2**20 if sys.platform == 'darwin' else 2**10)
