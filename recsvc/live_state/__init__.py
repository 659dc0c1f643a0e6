"""The local store of what happened since training: profiles, counts, erasures, and how far the topics are read."""
