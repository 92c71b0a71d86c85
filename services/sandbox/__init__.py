"""A simulated city of firms, importers of public data sets, and the demo."""
