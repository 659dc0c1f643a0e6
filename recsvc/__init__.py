"""The LightFM recommendation server: loads published models and ranks videos over gRPC."""
