-- Who leads, and whether that session does nothing but wait for its client; no row where nobody does.
SELECT
    a.pid,
    coalesce(a.usename, '')::text AS role,
    coalesce(a.application_name, '') AS application,
    a.state_change::text,
    coalesce(a.wait_event_type = 'Client', false) AS waits_for_its_client
FROM pg_stat_activity AS a
WHERE a.pid = ({leader_pid})
