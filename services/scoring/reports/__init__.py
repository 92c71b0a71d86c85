"""Reports: what a credit officer files of a score."""
