"""MONAI Label with this bundle: an environment of its own, the server, and a check of both over REST.

::

    environment.py   makes .venv-monailabel, whose packages clash with the bundle's own
    server.py        starts and stops the server on a workspace with a copy of the bundle
    client.py        the few REST calls that the check makes
    check.py         inference and fine-tuning over REST, compared with `python -m monai.bundle run`
"""
