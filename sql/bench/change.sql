-- The write that is measured.
UPDATE {table}
SET credits = 1 + (credits + 7) % 1000
WHERE id = $1
