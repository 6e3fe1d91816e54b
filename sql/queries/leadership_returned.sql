-- We lead no more, and ring for whoever stands by: they hear it once this is committed, and the lock is free before that.
SELECT
    pg_advisory_unlock('creditsd.changes'::regclass::oid::int4, 1249075342),
    pg_notify('creditsd_lead', '')
