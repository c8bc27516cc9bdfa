"""Releasing the bundle: what is packed, in which forms, and the checks that it passes first.

``python -m development.release --help``. ``zoo_checks`` are those of the MONAI model zoo, offline, of files and of the
network; ``build`` puts the zip, the hub folder and the lists of addresses together; ``confirm`` downloads what was
published and compares it; ``half_precision`` halves weights; ``inspection`` looks into a zip that came from elsewhere.
"""
