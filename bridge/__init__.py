"""The gateway of the feed: pages that never fail their user, and interactions that are never lost."""
