-- All that a role needs under which people read their own total and its steps: row level security shows each of them
-- their own rows alone.
GRANT USAGE ON SCHEMA creditsd TO {reader};
GRANT SELECT ON creditsd.balances, creditsd.history TO {reader};
