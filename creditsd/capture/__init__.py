"""Whose credits may differ: the doorbell wakes, the reader reads the changes and recomputes their users."""
