-- Broadcasts each total on the topic of its user, by the function that Supabase has for it. One that it could not store is told by a warning.
SELECT realtime.send(t.payload::jsonb, %(event)s::text, t.topic, true)
FROM unnest(%(topics)s::text[], %(payloads)s::text[]) AS t (topic, payload)
