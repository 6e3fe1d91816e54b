-- Ring on a channel of the doctor's; not where notifications queue up, for a full queue would fail the commit.
SELECT pg_notify(%(channel)s, %(payload)s)
WHERE pg_notification_queue_usage() <= 0.5
