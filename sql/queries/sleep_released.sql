-- Awake: writers need not ring.
SELECT pg_advisory_unlock('creditsd.changes'::regclass::oid::int4, 1)
