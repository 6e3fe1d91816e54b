-- How many connections this role may still open here beside this one, how many of a daemon's are open, and which limit is the nearest.
WITH sessions AS (
    SELECT a.datid, a.usesysid, a.application_name
    FROM pg_stat_activity AS a
    WHERE a.datid IS NOT NULL
    AND a.usesysid IS NOT NULL
    AND a.leader_pid IS NULL
    AND a.backend_type IS DISTINCT FROM 'walsender'
    AND a.pid <> pg_backend_pid()
),
limits (name, most, used) AS (
    SELECT
        'max_connections',
        current_setting('max_connections')::integer
        - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::integer END
        - CASE WHEN r.rolsuper THEN 0 ELSE coalesce(current_setting('reserved_connections', true), '0')::integer END,
        (SELECT count(*) FROM sessions)
    FROM pg_roles AS r
    WHERE r.rolname = session_user
    UNION ALL
    SELECT
        'CONNECTION LIMIT of the role ' || r.rolname,
        r.rolconnlimit,
        (SELECT count(*) FROM sessions AS s WHERE s.usesysid = r.oid)
    FROM pg_roles AS r
    WHERE r.rolname = session_user
    AND r.rolconnlimit >= 0
    AND NOT r.rolsuper
    UNION ALL
    SELECT
        'CONNECTION LIMIT of the database ' || d.datname,
        d.datconnlimit,
        (SELECT count(*) FROM sessions AS s WHERE s.datid = d.oid)
    FROM pg_database AS d
    JOIN pg_roles AS r ON r.rolname = session_user
    WHERE d.datname = current_database()
    AND d.datconnlimit >= 0
    AND NOT r.rolsuper
)
SELECT
    greatest(l.most - l.used, 0)::integer,
    (
        SELECT count(*)
        FROM sessions AS s
        JOIN pg_database AS d ON d.oid = s.datid
        WHERE d.datname = current_database()
        AND s.application_name IN (
            'creditsd publisher', 'creditsd reader', 'creditsd operator', 'creditsd leader', 'creditsd doorbell', 'creditsd sleep'
        )
    ),
    l.name
FROM limits AS l
ORDER BY l.most - l.used
LIMIT 1
