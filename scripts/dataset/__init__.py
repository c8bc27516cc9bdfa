"""Which scans there are, and what is wrong with them, before any work starts.

datalists (datalist_file, label_values): dataset.json -> cases; layouts: folders without one, such as
PASCAL VOC's; inference_inputs: files, folders, DICOM series -> cases; client_cases: cases of MONAI Label; volume_file
(nifti_header): the one reader; scan_rules: what a scan must be; check (case_check, problems, stamp):
every problem of a data set at once.
"""
