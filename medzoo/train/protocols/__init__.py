"""How whole cases are scored: one module a protocol, named by the config.

`evaluation.protocol` is the name of a module here, and of the one in
medzoo.report that draws what it leaves. A protocol has no state; it is these
names, and `train.evaluate` knows nothing else of it:

* `Truth`: what there is to find, with `keys` (the cases') and `groups` (case
  key -> patient).
* `read_truth(cases) -> Truth`, `merge(truths) -> Truth`.
* `choose_threshold(outputs, truth, spec)`: the operating point, a number or a
  dict of JSON, chosen on validation cases; spec is the config's `evaluation`.
* `BASELINE_THRESHOLDS`: whether a baseline gets a threshold too.
* `score(outputs, truth, threshold, *, resamples, seed) -> metrics`, entries as
  `bootstrap.entry` makes them; the threshold is None for a system without one.
* `differences(outputs, others, truth, thresholds, *, resamples, seed)`: metric
  -> entry of the paired difference of two systems, each with its threshold.
* `ablated(outputs)`: name -> outputs, where the predictor gave besides what
  the model says without one of its parts; {} where it does not.
* `objective(cases, found) -> float`: what baselines are tuned for, the higher
  the better; found is one of `types`' dataclasses a case.
* `choose_shown(outputs, truth, threshold)`: where `evaluation` has an
  `explainer`, the keys of the cases that this predictor is to look at too.
* `write_predictions(folder, outputs, truth, threshold)`: files that other
  programs score; the threshold as in `score`.

What `train.predict` leaves of cases that nobody has labelled is the protocol's
too; `model` is a `predict.Model`:

* `VOTES`: whether several models may be asked, see `predictors.voting`.
* `READS`: what the model takes, as `inputs.find` calls it.
* `describe(output, volume, model)`: what `detections.json` says of one case,
  `frame` and `detections`, those at or above the threshold; of a case that is
  judged as a whole also `class`, `probability`, that of the class named in
  `probability_of`, of three classes and more the `probabilities` of all by
  name, and `threshold`, None where there is none.
* `draw(output, volume, model)`: yields (number of the slice, (h, w, 3) uint8)
  of what there is to show.
* `write_found(folder, outputs, grids, model)`: writes files on all cases and
  returns their names; `grids` are the sizes of the cases.

Outputs are `mapping.Output` by case key, `output` one of them.
"""
