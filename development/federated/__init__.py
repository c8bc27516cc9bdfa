"""Federated training by NVIDIA FLARE, rehearsed on one machine with sites of synthetic scans.

`__main__` makes the environment and the sites and prints the Dice before and after, `job` is what the server is given,
`site` is what a site runs for each task.
"""
