"""What every stage's training shares.

streams: endless batches, number n known from seed and n; resume: checkpoints; progress: bar and ETA; precision:
bfloat16 where it pays; run_folder: one folder, one run; validation: when; fine_tuning: on newly labelled scans.
"""
