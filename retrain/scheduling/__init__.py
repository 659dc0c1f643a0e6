"""Scheduling of runs: when each starts, alone and watched over."""
