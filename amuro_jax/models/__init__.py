"""Decoder models: configuration, parameters, layout, forward pass."""
