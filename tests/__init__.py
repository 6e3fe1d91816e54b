"""The specification of creditsd, run against real servers."""
