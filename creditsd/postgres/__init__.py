"""Connections to PostgreSQL, and the SQL files that are run on them."""
