-- What the rules say of streams that play at once; see core/policy.py.

local function matches(stream, rule)
  for name, value in pairs(rule.where) do
    if stream.attributes[name] ~= value then return false end
  end
  return not rule.attribute or stream.attributes[rule.attribute] ~= nil
end

local function most(rule) return rule.policy == 'user' and limit or rule.max end

-- The rules that a new stream beside these would violate, each with the streams in its way.
local function violations(playing, new)
  -- What a rule counts: the streams in the way of the new one, and how many there would be with it.
  local function count(rule)
    local value = rule.attribute and new.attributes[rule.attribute]
    local seen, total, in_its_way = {[new.device] = true}, 1, {}
    for id, stream in pairs(playing) do
      if matches(stream, rule) and (not rule.attribute or stream.attributes[rule.attribute] == value) then
        if rule.count == 'streams' or stream.device ~= new.device then in_its_way[#in_its_way + 1] = id end
        if rule.count == 'streams' or not seen[stream.device] then total = total + 1 end
        seen[stream.device] = true
      end
    end
    return in_its_way, total
  end

  local found = {}
  for _, rule in ipairs(request.rules) do
    if matches(new, rule) then
      local in_its_way, total = count(rule)
      if total > most(rule) then
        found[#found + 1] = {policy = rule.policy, rule = rule.count, attribute = rule.attribute,
          threshold = most(rule), streams = in_its_way}
      end
    end
  end
  return found
end
