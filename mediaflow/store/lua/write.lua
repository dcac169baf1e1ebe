-- Store a checkpoint or the published details under the fence; what comes late changes nothing.
-- KEYS: partition call session
-- ARGV: partition field call_id session_id instance incarnation fence number value
-- RETURNS: written; refenced fence (nothing was written: write again under it); lost; unknown
-- USES: partition time plan seniority records
-- FLAGS: allow-oom

local call_key, session_key = KEYS[8], KEYS[9]
local field, call_id, session_id, instance, incarnation = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local fence, number, value = tonumber(ARGV[11]), ARGV[12], ARGV[13]

local call = read_call(call_key, call_id)
local entry = call.sessions[session_id]
local stored = tonumber(redis.call('HGET', session_key, field .. '_number') or 0)
if not entry then return {'unknown'} end
if not LIVE[entry.state] then return {'lost'} end
if fence > entry.fence then return {'unknown'} end
if not owned_by(entry, instance, incarnation) then return {'lost'} end
if fence < entry.fence then return {'refenced', integer(entry.fence)} end
if tonumber(number) > stored then
  record('HSET', session_key, field, value, field .. '_number', number)
  carry_out()
end
return {'written'}
