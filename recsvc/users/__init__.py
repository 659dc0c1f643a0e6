"""What is known of users: profiles, their log, the consumer of interactions, erasure."""
