"""Figures: what creditsd costs the writers, how late a total arrives, how fast it catches up."""
