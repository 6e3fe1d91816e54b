-- Whether the lock that this session leads by is still the one that others ask for: not where our tables were made anew under it.
SELECT ({leader_pid}) IS NOT DISTINCT FROM pg_backend_pid()
