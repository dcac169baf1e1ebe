-- The order of siblings, bytewise. Lua's own < on strings obeys the locale of the server's process.
-- The same order as core/seniority.py.

local function bytes_precede(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

local function precedes(one_rank, one_id, other_rank, other_id)
  if one_rank ~= other_rank then return bytes_precede(one_rank, other_rank) end
  return bytes_precede(one_id, other_id)
end
