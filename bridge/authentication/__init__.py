"""Authentication of users: bearer tokens, public keys, and the policy for both."""
