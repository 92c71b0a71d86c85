"""Models: folders on disk, and scores with exact reasons from them."""
