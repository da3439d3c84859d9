"""The page that a run leaves: its pictures and one self-contained HTML file.

`page` writes the page of any experiment from its `results.json`; `labels`
holds the words for what a table shows, `viewer` slices to scroll through.
`plots`, `box_plots`, `lung_plots` and `classification_plots` draw, `figures`
holds what several reports show. `nodules`, `slice_boxes`, `lung_masks`,
`pictures` and `windows` are the reports of experiments.
"""
