"""The page of a run: one HTML file that needs nothing beside it.

It tells what was scored on what, how well, beside which baseline and how
sure that is, to somebody who has not seen the project before.
"""

import base64
import dataclasses
import hashlib
import importlib.resources
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from medzoo.report import labels
from medzoo.report import viewer

_Names = Mapping[str, labels.Label] | None


@dataclasses.dataclass(frozen=True)
class Figure:
  """A picture on the page.

  Attributes:
    title: a few words.
    png: the file's bytes; None where there was nothing to draw, and the page
      leaves the figure out.
    caption: what there is to see, in a sentence or two; may be ''.
  """

  title: str
  png: bytes | None
  caption: str = ''


def write(
  path: pathlib.Path,
  results: Mapping[str, Any],
  figures: Sequence[Figure | viewer.Viewer] = (),
  notes: Sequence[str] = (),
  names: _Names = None,
) -> None:
  """Writes the page.

  Args:
    path: the HTML file.
    results: what `results.json` holds. `main_metric` names the headline, or
      the first metric is it; parts that a run does not have (`baselines`,
      `paired_differences`, `ablations`, `folds`, `threshold`, `sizes`,
      `repairs`, `skipped`) may be missing.
    figures: in the order of the page.
    notes: lines on what else a reader ought to know; shown as given.
    names: labels of metrics that mean something else in this experiment, or
      nothing in others.

  Raises:
    ValueError: there is no metric to head the page with.
  """
  path.write_text(render(results, figures, notes, names), encoding='utf-8')


def render(
  results: Mapping[str, Any],
  figures: Sequence[Figure | viewer.Viewer] = (),
  notes: Sequence[str] = (),
  names: _Names = None,
) -> str:
  """Returns the page as text; see `write`."""
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_source),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  shown = [figure for figure in figures if _is_shown(figure)]
  has_viewer = any(isinstance(figure, viewer.Viewer) for figure in shown)
  script = _source('viewer.js') if has_viewer else ''
  return environment.get_template('page.html.jinja').render(
    title=f'{results["experiment"]} · {results["variant"]}',
    banners=_banners(results),
    headline=_headline(results, names),
    figures=[_figure(figure) for figure in shown],
    metrics=_metric_table(results, names),
    differences=_differences(results, names),
    facts=_facts(results),
    tables=_tables(results),
    skipped=_skipped(results),
    notes=[*notes, *_of_dataset(results)],
    script=script,
    script_hash=base64.b64encode(
      hashlib.sha256(script.encode('utf-8')).digest()
    ).decode('ascii'),
    raw=json.dumps(results, indent=2, ensure_ascii=False, default=str),
  )


def _banners(results: Mapping[str, Any]) -> list[dict[str, str]]:
  banners = []
  if 'smoke' in results['variant']:
    text = (
      'Smoke run: everything is tiny and hardly trained. These numbers mean'
      ' nothing; they show that the program runs.'
    )
    banners.append({'kind': 'alarm', 'text': text})
  if not results['finished']:
    text = 'This run is not finished; what follows is provisional.'
    banners.append({'kind': 'alarm', 'text': text})
  if results['dataset']['synthetic']:
    text = (
      'Synthetic data: the images are computed phantoms. The scores say'
      ' nothing about performance on patients.'
    )
    banners.append({'kind': 'warning', 'text': text})
  return banners


def _of_dataset(results: Mapping[str, Any]) -> list[str]:
  """Returns what was noted while the dataset was built."""
  return [f'Of the data: {x}.' for x in results['dataset'].get('notes', ())]


def _headline(results: Mapping[str, Any], names: _Names) -> dict[str, Any]:
  metrics = results['metrics']
  if not metrics:
    raise ValueError('the results hold no metric to head the report with')
  name = results.get('main_metric') or next(iter(metrics))
  if name not in metrics:
    raise ValueError(
      f'the main metric {name!r} is not among the metrics {", ".join(metrics)}'
    )
  label = labels.of(name, names)
  systems = {'This model': metrics[name]}
  for baseline, values in results.get('baselines', {}).items():
    if name in values:
      systems[labels.plain(baseline)] = values[name]
  return {
    'label': label,
    'systems': [
      {'name': system, **_entry(entry), 'bar': _bar(entry, label)}
      for system, entry in systems.items()
    ],
    'differences': [
      row for row in _differences(results, names) if row['metric'] == name
    ],
    'groups': results['dataset']['groups'],
    'grouped_by': results['grouped_by'],
  }


def _bar(
  entry: Mapping[str, Any], label: labels.Label
) -> dict[str, str] | None:
  """Places a value and its interval on an axis from 0 to 1, in percent."""
  if not label.is_share or not _is_number(entry['value']):
    return None
  low, high = entry['low'], entry['high']
  if low is None or high is None:
    low = high = entry['value']
  return {
    'dot': f'{100 * entry["value"]:.2f}',
    'left': f'{100 * low:.2f}',
    'width': f'{100 * (high - low):.2f}',
  }


def _entry(entry: Mapping[str, Any]) -> dict[str, str]:
  """Writes value and interval of an entry of the results."""
  value, interval = entry['value'], ''
  if value is None:
    return {'value': 'undefined', 'interval': entry.get('why', '')}
  if entry.get('low') is not None:
    low, high = labels.number(entry['low']), labels.number(entry['high'])
    interval = f'{low} to {high}'
  shown = labels.number(value) if _is_number(value) else json.dumps(value)
  return {'value': shown, 'interval': interval}


def _metric_table(results: Mapping[str, Any], names: _Names) -> dict[str, Any]:
  """One row a metric, one column a system."""
  baselines = results.get('baselines', {}) | results.get('ablations', {})
  systems = {'This model': results['metrics']}
  systems |= {labels.plain(name): rows for name, rows in baselines.items()}
  rows = [
    {
      'label': labels.of(name, names),
      'cells': [
        _entry(values[name]) if name in values else None
        for values in systems.values()
      ],
    }
    for name in results['metrics']
  ]
  return {'systems': list(systems), 'rows': rows}


def _differences(
  results: Mapping[str, Any], names: _Names
) -> list[dict[str, Any]]:
  """Reads `paired_differences`: 'cpm - baseline' -> entry."""
  rows = []
  for name, entry in results.get('paired_differences', {}).items():
    metric, _, other = name.partition(' - ')
    other = labels.plain(other)
    row = {'metric': metric, 'label': labels.of(metric, names), 'other': other}
    if entry['value'] is None:
      verdict = entry.get('why', 'undefined')
    elif entry['low'] > 0:
      verdict = f'higher than {other}: the interval lies above 0'
    elif entry['high'] < 0:
      verdict = f'lower than {other}: the interval lies below 0'
    else:
      verdict = f'no difference from {other} is shown: the interval holds 0'
    rows.append({**row, **_entry(entry), 'verdict': verdict})
  return rows


def _facts(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The small tables of names and values."""
  run = {'seed': results['seed'], 'device': results['device']}
  point = results.get('threshold')
  if isinstance(point, Mapping):
    run |= point
  elif point is not None:
    run['operating threshold'] = point
  if 'detection_threshold' in results:
    run['operating threshold of boxes'] = results['detection_threshold']
  memory = {
    name: f'{labels.number(value)} MB'
    for name, value in results['peak_memory_mb'].items()
  }
  sections = {
    'Data and split': {
      key: value
      for key, value in results['dataset'].items()
      if key not in ('notes', 'crops')
    },
    'Crops': results['dataset'].get('crops', {}),
    'Run': run,
    'Timing': results['timing'],
    'Peak memory': memory,
    'Sizes': results.get('sizes', {}),
    'Repairs while reading': results.get('repairs', {}),
    'Versions': results['versions'],
  }
  return [
    {
      'title': title,
      'rows': [
        (labels.plain(_unitless(name)), _shown(name, value))
        for name, value in values.items()
      ],
    }
    for title, values in sections.items()
    if values
  ]


def _tables(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The tables of stages and folds, with a column for each key met."""
  tables = []
  for title, rows in (
    ('Stages', results['stages']),
    ('Folds', results.get('folds', [])),
  ):
    names = list(dict.fromkeys(name for row in rows for name in row))
    if rows:
      tables.append(
        {
          'title': title,
          'columns': [labels.of(_unitless(name)).name for name in names],
          'rows': [
            [_shown(name, row.get(name)) for name in names] for row in rows
          ],
        }
      )
  return tables


def _skipped(results: Mapping[str, Any]) -> list[tuple[str, int]]:
  """Counts what was left out, by reason; series are not named."""
  counts: dict[str, int] = {}
  for item in results.get('skipped', []):
    counts[item['reason']] = counts.get(item['reason'], 0) + 1
  return sorted(counts.items(), key=lambda pair: -pair[1])


def _shown(name: str, value: Any) -> str:
  if isinstance(value, Mapping) and 'value' in value:
    cell = _entry(value)
    return f'{cell["value"]} ({cell["interval"]})'
  if isinstance(value, Mapping):
    return ', '.join(f'{k} {_shown(k, v)}' for k, v in value.items())
  if isinstance(value, (list, tuple)):
    return ', '.join(_shown(name, item) for item in value)
  if _is_number(value) and name.rpartition('_')[2] == 'seconds':
    return labels.duration(value)
  if _is_number(value) and name.startswith('seconds_per_'):
    return labels.duration(value)
  return labels.number(value)


def _unitless(name: str) -> str:
  """Leaves '_seconds' out of a name, since the value is written with units."""
  if name.startswith('seconds_per_'):
    return name.removeprefix('seconds_')
  return name.removesuffix('_seconds') if name != 'seconds' else 'time'


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_shown(figure: Figure | viewer.Viewer) -> bool:
  if isinstance(figure, viewer.Viewer):
    return bool(figure.scans)
  return figure.png is not None


def _figure(figure: Figure | viewer.Viewer) -> dict[str, Any]:
  if isinstance(figure, viewer.Viewer):
    return viewer.context(figure)
  data = base64.b64encode(figure.png).decode('ascii')
  return {
    'title': figure.title,
    'caption': figure.caption,
    'source': f'data:image/png;base64,{data}',
  }


def _source(name: str) -> str:
  """Reads a part of the page that lies beside this module."""
  folder = importlib.resources.files('medzoo.report')
  return (folder / name).read_text(encoding='utf-8')
