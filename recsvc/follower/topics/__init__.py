"""The followed topics, from the brokers into the store."""
