-- The current role, and what sql/grants.sql grants to the daemon's role and this one does not have.
SELECT current_user::text, array_agg(found.lacking ORDER BY found.lacking) FILTER (WHERE found.lacking IS NOT NULL)
FROM (
    SELECT 'USAGE on the schema creditsd' AS lacking
    WHERE NOT has_schema_privilege('creditsd', 'USAGE')
    UNION ALL
    SELECT n.privilege || ' on creditsd.' || c.relname
    FROM pg_class AS c
    JOIN (
        VALUES
            (NULL, 'SELECT'),
            ('resyncs', 'INSERT'),
            ('repairs', 'INSERT'),
            ('reader', 'UPDATE'),
            ('sinks', 'INSERT'),
            ('sinks', 'UPDATE'),
            ('sinks', 'DELETE'),
            ('deliveries', 'INSERT'),
            ('deliveries', 'UPDATE'),
            ('deliveries', 'DELETE'),
            ('attempts', 'INSERT'),
            ('attempts', 'DELETE')
    ) AS n (relation, privilege) ON coalesce(n.relation, c.relname) = c.relname
    WHERE c.relnamespace = (SELECT s.oid FROM pg_namespace AS s WHERE s.nspname = 'creditsd')
    AND c.relkind IN ('r', 'p', 'v')
    AND NOT c.relispartition
    AND NOT has_table_privilege(c.oid, n.privilege)
    UNION ALL
    SELECT 'EXECUTE on creditsd.' || f.proname
    FROM pg_proc AS f
    WHERE f.pronamespace = (SELECT s.oid FROM pg_namespace AS s WHERE s.nspname = 'creditsd')
    AND f.proname IN (
        'begin_resync',
        'counts',
        'differs',
        'differs_now',
        'drain',
        'drain_few',
        'fingerprint',
        'forget',
        'functions_digest',
        'guard',
        'heartbeat',
        'level_differs',
        'level_now',
        'level_of',
        'low_at',
        'low_told',
        'purge',
        'recompute',
        'recompute_due',
        'recovered_at',
        'resume',
        'resync_next',
        'source_rows',
        'tidy_history',
        'totals',
        'totals_now',
        'users_after',
        'users_estimated'
    )
    AND NOT has_function_privilege(f.oid, 'EXECUTE')
) AS found
