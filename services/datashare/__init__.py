"""Participants, records, summaries, consents, disputes, accesses and their log."""
