-- Ring for the publishers: something about sinks or deliveries has been decided. Where notifications queue up they find out by themselves.
SELECT pg_notify('creditsd', 'sinks')
WHERE pg_notification_queue_usage() <= 0.5
