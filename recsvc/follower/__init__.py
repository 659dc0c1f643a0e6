"""The process that brings what happened since training into the store that all workers read."""
