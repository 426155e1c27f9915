"""Composes the platform and decides nothing: settings, wiring, HTTP, worker, command line."""
