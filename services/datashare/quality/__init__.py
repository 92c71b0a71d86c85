"""How good what each provider supplies is, and where sources contradict each other."""
