-- What was sent to a sink within a day, the newest first.
SELECT a.at, a.user_id::text, a.users, a.webhook_id, a.status, a.milliseconds, a.result, a.answer
FROM creditsd.attempts AS a
WHERE a.sink = %(sink)s
AND a.at >= clock_timestamp() - interval '1 day'
ORDER BY a.number DESC
LIMIT %(limit)s
