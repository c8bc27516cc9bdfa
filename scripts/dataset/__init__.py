"""Which scans there are, and what is wrong with them, before any work starts.

datalists (datalist_file, label_values): dataset.json -> cases; inference_inputs: files, folders, DICOM series -> cases;
client_cases: what MONAI Label hands over -> cases; check: every problem of a dataset at once (case_check one case,
volume_file its files, overlap shared scans and patients, problems the report, stamp a clean check). Layouts: folders
without a dataset.json, such as PASCAL VOC's (layouts/voc); photograph_check checks one photograph.
"""
