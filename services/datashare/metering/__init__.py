"""Metering: who used what, and who contributed what."""
