-- The plan of writes: a script reads and decides first, then carries the plan out; nothing in it can be refused.
-- Its order makes every prefix of it legal, should a command fail all the same: an index may name what its
-- record does not bear out (whoever follows an index checks the record), but no record lacks its index, and
-- what is half done is still named by one, so that the next sweep finds it and does the rest.
-- What is said of a record, and believed without a look at it, is revoked before it changes and granted when all is done.

local additions, revocations, records, expiries, removals, grants, notices = {}, {}, {}, {}, {}, {}, {}

local function add(...) additions[#additions + 1] = {...} end        -- to indexes; what a record will point to
local function revoke(...) revocations[#revocations + 1] = {...} end -- what is said of records that will change
local function record(...) records[#records + 1] = {...} end         -- ownership itself
local function let_expire(...) expiries[#expiries + 1] = {...} end   -- what is over
local function remove(...) removals[#removals + 1] = {...} end       -- from indexes
local function grant(name, ...) grants[name] = select('#', ...) > 0 and {...} or nil end  -- what the last word says
local function announce(...) notices[#notices + 1] = {...} end       -- log and pub/sub

local function carry_out()
  local said = {}
  for _, command in pairs(grants) do said[#said + 1] = command end
  for _, phase in ipairs({additions, revocations, records, expiries, removals, said, notices}) do
    for _, command in ipairs(phase) do
      redis.call(unpack(command))
    end
  end
end
