"""The `puhui` command: a thin, typed face of `puhui_client`, and of the services on one machine."""
