-- Whether we lead now; held by this session, the one that writes balances.
SELECT pg_try_advisory_lock('creditsd.changes'::regclass::oid::int4, 1249075342)
