"""What every program shares: vocabulary, data, identity, the wire."""

__version__ = "0.1.0"
