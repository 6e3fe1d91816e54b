-- Frees what the list of a pass takes.
CLOSE pass_users
