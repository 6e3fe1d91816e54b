-- We lead no more.
SELECT pg_advisory_unlock('creditsd.changes'::regclass::oid::int4, 1249075342)
