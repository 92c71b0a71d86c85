"""Re-evaluations: decisions to be made again, because what counted in them was corrected since."""
