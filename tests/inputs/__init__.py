"""Tests of the typed inputs."""
