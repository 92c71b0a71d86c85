"""Retention: from when on a record is hidden, and the job that deletes what is."""
