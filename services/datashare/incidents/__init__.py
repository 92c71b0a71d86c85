"""The register of incidents, with what was done about them."""
