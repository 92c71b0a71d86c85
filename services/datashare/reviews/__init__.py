"""Whom a row is about that does not say it: names, candidates, and the queue of what waits."""
