-- Ring the bell.
SELECT pg_notify('creditsd', '')
