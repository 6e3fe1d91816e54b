-- Ring for the publishers: something about sinks or deliveries has been decided.
SELECT pg_notify('creditsd', 'sinks')
