-- Whoever was published since a version: a server that crashed or failed over may have taken those totals back.
SELECT b.user_id::text
FROM creditsd.balances AS b
WHERE b.version > %(version)s
ORDER BY b.version DESC
LIMIT %(limit)s
