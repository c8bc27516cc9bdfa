"""MONAI Label with this bundle.

environment: makes .venv-monailabel, whose packages clash with the bundle's own; server: starts and stops the server on
a workspace with a copy of the bundle; active_learning: which scan is next; fine_tuning: runs on newly labelled scans.
"""
