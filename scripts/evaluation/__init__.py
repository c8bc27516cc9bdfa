"""How good a segmentation is, in numbers and pictures.

In the order of the pipeline:

1. `case_scores` compares one predicted label map with its reference and gives one row of scores per contoured organ.
2. `summary` averages the rows over patients, with bootstrap intervals, writes the report of a run and prints several
   runs side by side (`intervals` holds the bootstrap, `figures` the Dice figure); `comparison` prints what runs differ
   by, patient by patient.
3. `overlay` draws one case as a picture to look at: organs over the CT in three planes (`display` turns the volume
   the way a radiologist expects it and chooses the slices); `patients` draws the best, the median and the worst
   patient of a run beside one another.
4. `groups` splits the scores by what is known of the patients.

Photographs are scored over the pixels of the whole set by `pixel_scores`.

`atomic_write` keeps every file either whole or untouched.
"""
