-- A user's id as the table's type writes it.
SELECT %(user_id)s::text::creditsd.user_id::text
