-- How many tables of ours that are nobody else's business each publication carries: all but the balances are.
SELECT p.pubname::text, count(*)
FROM pg_publication_tables AS p
WHERE p.schemaname = 'creditsd'
AND p.tablename <> 'balances'
GROUP BY p.pubname
ORDER BY p.pubname
