"""The log of what callers told of users: appended, followed, compacted."""
