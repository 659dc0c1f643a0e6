"""What RPC handlers stand on: errors, request checks, callers, limits."""
