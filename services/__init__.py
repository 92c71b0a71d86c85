"""The services of Puhui, the `puhui` command and the sandbox.

Services never import each other: they meet in the generated packages `puhui.<service>.v1`.
"""
