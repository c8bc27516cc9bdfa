"""MONAI Label with this bundle.

environment: makes .venv-monailabel, whose packages clash with the bundle's own; server: starts and stops the server on
a workspace with a copy of the bundle; fine_tuning: runs on newly labelled scans.
"""
