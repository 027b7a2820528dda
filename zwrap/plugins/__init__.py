"""Parts that are found by name, what packages offer, and former names in contracts."""
