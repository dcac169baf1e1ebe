-- Opens every script on the registry of instances; it has a lease clock of its own.
-- KEYS: clock instances records log
-- ARGV: cap_ms hints_channel …
-- An instance's record is incarnation|token|state|free slots|{its report as JSON}.

local CLOCK, INSTANCES, RECORDS, LOG = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local CAP_MS, HINTS = tonumber(ARGV[1]), ARGV[2]
local LOG_LENGTH = 10000
redis.call('ZCARD', INSTANCES)
redis.call('XLEN', LOG)

local function read_record(instance)
  local text = redis.call('HGET', RECORDS, instance)
  if not text then return nil end
  local incarnation, token, state, free = string.match(text, '^(%d+)|([^|]*)|(%l+)|(%d+)|')
  if not incarnation then error('malformed instance record: ' .. text) end
  return {incarnation = tonumber(incarnation), token = token, state = state, free = tonumber(free)}
end
