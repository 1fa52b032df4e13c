"""The API: a context in, JSON and problems out, and the door that keeps other sites out."""
