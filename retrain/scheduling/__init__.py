"""When a run starts, alone and watched over."""
