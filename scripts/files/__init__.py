"""Files: written whole or not at all, kept apart from inputs, named and hashed."""
