"""The same RPCs as HTTP/JSON, by the `google.api.http` annotations in the .proto files."""
