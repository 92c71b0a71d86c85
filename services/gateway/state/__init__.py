"""What replicas of the gateway have to agree on: in memory for one, in Redis for several."""
