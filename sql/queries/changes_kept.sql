-- How many changes nobody has read, counted up to a limit, and what the table takes on the disk.
SELECT ({changes_unread}), pg_size_pretty(pg_total_relation_size('creditsd.changes'))
