"""Which scans there are, and what is wrong with them, before any work starts.

datalists (datalist_file, label_values): dataset.json -> cases; inference_inputs: files, folders, DICOM series -> cases;
client_cases: what MONAI Label hands over -> cases; check: every problem of a dataset at once (case_check one case,
volume_file its files, overlap shared scans and patients, problems the report, stamp a clean check). Photographs:
voc_layout reads PASCAL VOC's folders as a datalist, photograph_check checks one case. btcv_organs: the 13
organs of the default organ list.
"""
