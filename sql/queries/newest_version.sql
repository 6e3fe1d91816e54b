-- The version of the newest total there is; 0 where there is none.
SELECT coalesce((SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1), 0)
