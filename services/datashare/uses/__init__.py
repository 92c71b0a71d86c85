"""Uses: how often what a provider supplied was released."""
