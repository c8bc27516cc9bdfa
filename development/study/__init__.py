"""The study: every arm of ``configs/study/plan.yaml``, trained and scored alike, and what their scores say.

From the plan to the page::

    plan            configs/study/plan.yaml -> arms, regimes and the runs of a study, in their order
    composition     one run -> config files, settings and the commands of the bundle
    single_run      coarse stage shared, training, evaluation, results appended
    run_command     one run after another; what is stored is skipped
    results         scores.csv.xz and runs.jsonl of a study: append, read
    tables          its tables in Markdown
    comparison      what runs differ by, patient by patient
    report_command  all of them as one page
    embedding       held-out queries in the embedding of a contrastive stage
    embed_command   their map
    patients        pictures of the best, the median and the worst patient of an evaluation
    quality         how well the estimated Dice tells good results from bad ones
    broken          how well scans broken on purpose are told from intact ones
    iou_table       IoU of several runs on photographs, side by side
"""
