"""Training beside the stages themselves: when it is validated, what it cost, and experiment tracking."""
