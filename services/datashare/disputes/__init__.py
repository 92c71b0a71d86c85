"""Disputes 异议: what a firm says is wrong about it, and what came of it."""
