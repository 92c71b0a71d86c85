"""What firms allow, to whom, for which purpose and how long."""
