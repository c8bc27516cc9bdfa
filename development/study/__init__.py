"""The study: every arm of ``configs/study/plan.yaml``, trained and scored alike, and what their scores say.

From the plan to the page::

    plan         configs/study/plan.yaml -> arms, regimes and the runs of a study, in their order
    composition  one run -> config files, settings and the commands of the bundle
    claim        a run belongs to one process at a time
    single_run   coarse stage shared, training, evaluation, results stored
    record       what a run was and what it cost: run.json
    queue        one run after another, with an ETA; resumable
    run_command  the options of all this
    results      stored results -> one table
    tables       Markdown and CSV (the comparisons are those of `scripts.evaluation.comparison`)
    figures      forest plots, Dice of every organ, costs
    costs_command  what an epoch of every arm costs on one core
    report_command  tables and figures as one page
    embedding    held-out queries in the embedding of a contrastive stage
    embed_command  their map
"""
