"""DICOM in: which series lie in a folder, whether one is a volume, and structures as voxels."""
