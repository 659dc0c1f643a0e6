"""Parts of RPC handlers: errors, request checks, callers, limits."""
