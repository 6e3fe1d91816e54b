-- All that a role needs under which people read their own total: row level security shows each of them the own row alone.
GRANT USAGE ON SCHEMA creditsd TO {reader};
GRANT SELECT ON creditsd.balances TO {reader};
