"""Commands of `puhui model` that make, use and judge models: a module per command or source."""
