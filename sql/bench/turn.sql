-- One bench a database: the schema has one name.
SELECT pg_try_advisory_lock(hashtextextended('creditsd bench', 0))
