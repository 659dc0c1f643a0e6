"""One call for a page, from protobuf to protobuf."""
