"""A picture of a data set before anything is trained on it: python -m scripts.dataset_report --dataset_dir DATASET.

measure: what is read from one case; outliers: what is worth a look; thumbnails and figures: pictures; page: the HTML;
doubts: a list of the contours that do not fit their scan.
"""
