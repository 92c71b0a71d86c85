"""What participants prove themselves with at the entrance: certificates, keys and persons."""
