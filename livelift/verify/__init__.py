"""Manifests of both trees at one cut, and the signed proof that they are equal."""
