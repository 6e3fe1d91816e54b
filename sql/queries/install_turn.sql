-- One install or uninstall at a time; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('creditsd install', 0))
