"""Summaries: monthly aggregates of a subject's records, kept up to date as records arrive."""
