"""Plain values: users and interactions."""
