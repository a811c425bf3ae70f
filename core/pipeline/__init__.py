"""What one run does: plans, and the rows of a result."""
