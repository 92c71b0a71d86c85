"""The catalogue: which record types and purposes there are, and the policy of each."""
