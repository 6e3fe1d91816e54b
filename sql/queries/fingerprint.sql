-- How the table is now, and whether that is how it was when everyone was last begun to be recomputed.
SELECT now.fingerprint, now.fingerprint IS DISTINCT FROM r.fingerprint
FROM (SELECT creditsd.fingerprint() AS fingerprint) AS now
LEFT JOIN creditsd.reader AS r ON true
