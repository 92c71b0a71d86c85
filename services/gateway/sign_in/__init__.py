"""An OpenID provider of the sandbox's own, so that people can sign in; production has none."""
