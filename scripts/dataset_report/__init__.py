"""A picture of a data set before anything is trained on it: python -m scripts.dataset_report --dataset_dir DATASET.

measure: one case; outliers: what is worth a look; page: the HTML and figures; doubts: contours that do not fit a scan.
"""
