"""Pictures of a volume and its organs, in the planes and the orientation that a radiologist expects."""
