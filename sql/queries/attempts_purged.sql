-- Delete what was sent more than a day ago, to whichever sink.
DELETE FROM creditsd.attempts
WHERE at < clock_timestamp() - interval '1 day'
