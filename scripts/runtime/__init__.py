"""The mechanisms of a run that every stage shares.

composition (running_config): configs put together, and those of a run; run_folder: one folder, one run; stage: the
trainer of a stage; streams: endless batches; resume: checkpoints; processes: ranks and shards; precision; progress: bar
and ETA; tracking: MLflow; plain_errors: commands and their one line of error.
"""
