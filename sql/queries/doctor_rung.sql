-- Ring on a channel of the doctor's.
SELECT pg_notify(%(channel)s, %(payload)s)
