"""Which scans there are, and what is wrong with them, before any work starts.

datalists (datalist_file, label_values, exclusions), layouts, inference_inputs, client_cases: cases from a dataset.json,
a folder, a path, MONAI Label; volume_file (nifti_header): the reader; scan_rules, check (case_check, problems): rules.
"""
