"""Parts of processes: termination, ports, death with the parent."""
