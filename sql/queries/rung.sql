-- Ring the bell; not where notifications queue up, for a full queue would fail the commit, and the daemon polls by then.
SELECT pg_notify('creditsd', '')
WHERE pg_notification_queue_usage() <= 0.5
