"""Who may speak for a firm."""
