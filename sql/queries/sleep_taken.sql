-- Waits until no silent writer is left. From the moment of asking, every new one rings.
SELECT pg_advisory_lock('creditsd.changes'::regclass::oid::int4, 806331267)
