-- Which server this is, whether it takes writes, what its clock says, how full its queue of notifications is.
SELECT
    current_setting('server_version_num')::integer,
    split_part(current_setting('server_version'), ' ', 1),
    pg_is_in_recovery(),
    extract(epoch FROM clock_timestamp())::double precision,
    pg_notification_queue_usage()
