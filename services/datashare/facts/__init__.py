"""What is held about a firm, for the firm itself."""
