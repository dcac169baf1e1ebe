-- Lease time: a clock that counts what passes between scripts, but never more than the cap at once.
-- A frozen Redis, or one whose host's clock jumped, cannot make all leases lapse (DESIGN §5).
-- Expects CLOCK (a key) and CAP_MS.

-- Redis may give another TIME to a second call in the same script: read it once.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local wall_ms = math.floor(now_us / 1000)

-- tostring() would write 1.7e+15: format every large number here. %d takes half as long, and needs a long of 64 bits.
local WHOLE = string.format('%d', 1e15) == '1000000000000000' and '%d' or '%.0f'
local function integer(number)
  return string.format(WHOLE, number)
end

local lease_ms = wall_ms
do
  local last = redis.call('HMGET', CLOCK, 'lease_ms', 'wall_ms')
  if last[1] and last[2] then
    lease_ms = tonumber(last[1]) + math.max(0, math.min(wall_ms - tonumber(last[2]), CAP_MS))
  end
end
