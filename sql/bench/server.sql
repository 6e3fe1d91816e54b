-- What decides whether, and how, it can be measured here.
SELECT
    current_database()::text,
    current_user::text,
    current_setting('server_version'),
    pg_is_in_recovery(),
    application.read_only = 'on',
    has_database_privilege(current_database(), 'CREATE'),
    current_setting('fsync') = 'on' AND application.synchronous <> 'off',
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::integer
FROM (
    -- As the application's sessions have it, not ours.
    SELECT
        max(s.reset_val) FILTER (WHERE s.name = 'synchronous_commit') AS synchronous,
        max(s.reset_val) FILTER (WHERE s.name = 'default_transaction_read_only') AS read_only
    FROM pg_settings AS s
) AS application
