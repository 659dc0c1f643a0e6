"""RPCs: decoding, encoding, API version, load shedding."""
