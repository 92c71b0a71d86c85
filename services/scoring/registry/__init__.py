"""The registry of models: which version serves, and who said so."""
