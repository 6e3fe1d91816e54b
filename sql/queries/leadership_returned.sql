-- We lead no more, and ring for whoever stands by: they hear it once this is committed, and the lock is free before that. Nobody rings where
-- notifications queue up: a full queue would fail the commit.
SELECT
    pg_advisory_unlock('creditsd.changes'::regclass::oid::int4, 1249075342),
    CASE WHEN pg_notification_queue_usage() <= 0.5 THEN pg_notify('creditsd_lead', '') END
