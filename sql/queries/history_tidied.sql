-- Keep the history's partitions as they should be: what was opened, dropped and deleted, and whether there is more to delete.
SELECT creditsd.tidy_history(%(history_days)s)
