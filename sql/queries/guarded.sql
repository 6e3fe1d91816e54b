-- Who may read totals, where row level security has been turned on for it just now.
SELECT creditsd.guard()
