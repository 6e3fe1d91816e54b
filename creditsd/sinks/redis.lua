-- Keep the higher version of each total, and tell its channel of the same name, in one step.
-- KEYS: one per total, then the stream if there is one. ARGV: ttl in seconds (0: none),
-- the stream's bound in entries (0: no stream), then the JSON of each total.
-- Returns per total: 1 stored, 0 an equal or higher version is held, -1 the key holds another type.
--
-- Only JSON that begins as ours counts as a version; any other string at the key counts as 0 and is
-- replaced. The first ","version": is the true one, whatever the user id says: inside a JSON string
-- every quote is escaped, so the id cannot contain these characters in a row.
local function version(json)
  return tonumber(string.match(json, '^{"user_id":".-","version":(%d+)')) or 0
end

local ttl, bound = tonumber(ARGV[1]), tonumber(ARGV[2])
local stream = bound > 0 and KEYS[#KEYS]
local outcome = {}

for i = 1, #ARGV - 2 do
  local key, json = KEYS[i], ARGV[i + 2]
  local held = redis.pcall('GET', key)
  if type(held) == 'table' then
    if not string.find(held.err, 'WRONGTYPE', 1, true) then
      return redis.error_reply(held.err)
    end
    outcome[i] = -1
  elseif held and version(held) >= version(json) then
    outcome[i] = 0
  else
    -- The key comes last: it is what marks the total as done. Were it first and the rest refused
    -- (no right to publish, say), a repetition would find the version held and stay silent for ever.
    if stream then
      redis.call('XADD', stream, 'MAXLEN', '~', bound, '*', 'total', json)
    end
    redis.call('PUBLISH', key, json)
    if ttl > 0 then
      redis.call('SET', key, json, 'EX', ttl)
    else
      redis.call('SET', key, json)
    end
    outcome[i] = 1
  end
end

return outcome
