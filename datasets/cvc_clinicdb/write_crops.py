"""Writes the crops of a prepared dataset as pictures in folders.

`python -m datasets.cvc_clinicdb.write_crops DATASET_FOLDER OUTPUT`

The layout is Keras's, `SPLIT/CLASS/NAME.png`, which other programs read and
`image_folder` too; `patients.csv` beside it says of which sequence a crop is.
"""

import argparse
import csv
import json
import os
import pathlib
import sys

from PIL import Image

from datasets import folders
from datasets import progress
from medzoo.data import crops
from medzoo.data import sources

# By label; their order by the alphabet is that of the labels, as Keras has it.
CLASSES = ('non_polyps', 'polyps')


def write(
  dataset: str | os.PathLike[str],
  output: str | os.PathLike[str],
  *,
  margin: float = 0.1,
  seed: int = 0,
) -> dict[str, dict[str, int]]:
  """Writes the crops of every split.

  Args:
    dataset: the folder of a prepared dataset of frames.
    output: the folder to make.
    margin, seed: see `crops.Crops`.

  Returns:
    By split, `crops.Crops.counts`, which `counts.json` holds too.

  Raises:
    ValueError: the output exists, or there is no such dataset.
  """
  output = pathlib.Path(output)
  if output.exists():
    raise ValueError(f'{output}: found it, expected a folder to be made')
  counts, rows = {}, []
  with folders.partial(output) as partial:
    for split in sources.split_names(dataset):
      cut = crops.Crops(
        sources.open_cases(dataset, split), margin=margin, seed=seed
      )
      counts[split] = cut.counts
      for case in progress.track(cut, split, len(cut)):
        frame, _, crop = case.volume.series_uid.rpartition('/')
        name = f'{frame}_{crop}.png'
        file = pathlib.PurePosixPath(split, CLASSES[case.label], name)
        path = partial / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(case.volume.voxels[0]).save(path)
        rows.append((file.as_posix(), case.group, split))
    with (partial / 'patients.csv').open('w', newline='') as file:
      csv.writer(file).writerows([('file', 'patient', 'split'), *rows])
    (partial / 'counts.json').write_text(json.dumps(counts, indent=1))
    partial.rename(output)
  return counts


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m datasets.cvc_clinicdb.write_crops',
    description='Writes polyps and mucosa of a prepared dataset as pictures.',
  )
  parser.add_argument('dataset', metavar='DATASET_FOLDER')
  parser.add_argument('output', metavar='OUTPUT')
  parser.add_argument('--margin', type=float, default=0.1)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args(arguments)
  try:
    counts = write(
      options.dataset, options.output, margin=options.margin, seed=options.seed
    )
  except (ValueError, OSError) as error:
    progress.say(f'error: {error}')
    return 1
  for split, numbers in counts.items():
    print(f'{split}: ' + ', '.join(f'{n} {x}' for x, n in numbers.items()))
  return 0


if __name__ == '__main__':
  sys.exit(main())
