"""The follower: the process that copies interactions since training from Kafka to the store that workers read."""
