"""The bundle against the real MONAI Label server."""
