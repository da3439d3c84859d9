"""Scores in plain numpy, by the official protocols, with their intervals.

`luna16` is the LUNA16 evaluation of nodule marks (and a command), `froc` the
curve behind it, `lesions` recall and false positives at one threshold,
`lesion_boxes` the FROC of boxes that overlap (and a command, under `lesions`),
`box_matches` and `average_precision` COCO's score of boxes and masks in
images, `segmentation` how well two masks agree and `lung_masks` what that says
of two lungs, `classification` the scores of pictures' classes and
`calibration` their probabilities, `picture_boxes` boxes in whole frames,
`bootstrap` the intervals over patients, studies or sequences that every score
carries. Nothing here reads images or knows a model.
"""
