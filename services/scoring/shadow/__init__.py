"""Shadow scoring: what challengers would have said of the firms that were scored."""
