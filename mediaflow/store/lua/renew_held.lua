-- Extend the leases of those of one owner's sessions of which nothing can be said but that it holds them.
-- KEYS: partition owned
-- ARGV: partition instance incarnation, then for each session: call_id/session_id fence
-- RETURNS: 1 where the lease was extended, for all if there is one number only; 0 where `renew` has to look
-- USES: partition time plan seniority records
-- FLAGS: allow-oom

local owned, instance, incarnation = KEYS[8], ARGV[6], ARGV[7]
local known = redis.call('SCARD', owned)

local asked = {'HMGET', HELD}
for i = 8, #ARGV, 2 do asked[#asked + 1] = ARGV[i] end
local said = redis.call(unpack(asked))

local results, leases, members, expires_at = {}, {'ZADD', LEASES}, {'SADD', owned}, integer(lease_ms + TTL_MS)
for i = 1, #said do
  local at = 6 + 2 * i
  local is_held = said[i] == claim(instance, incarnation, ARGV[at + 1])
  results[i] = is_held and 1 or 0
  if is_held then
    local member = ARGV[at]
    members[#members + 1] = member
    leases[#leases + 1], leases[#leases + 2] = expires_at, member
  end
end
local extended = #members - 2
if extended > 0 then
  add(unpack(leases))
  -- The set expires by the wall clock, so a jump of that clock can have taken it away. What this misses of a
  -- set that others began anew, `renew` puts back.
  if known < extended then add(unpack(members)) end
  add('PEXPIRE', owned, RETENTION_MS)
end
record('HSET', CLOCK, 'lease_ms', integer(lease_ms), 'wall_ms', integer(wall_ms))
carry_out()
return extended == #said and {1} or results
