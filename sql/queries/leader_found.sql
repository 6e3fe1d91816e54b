-- Whether anybody leads.
SELECT ({leader_pid}) IS NOT NULL
