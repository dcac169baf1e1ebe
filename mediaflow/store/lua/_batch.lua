-- Sessions of a batch are named by their keys alone, and not by arguments as well: each word costs Redis a microsecond.
-- Expects CLOCK (a key).

local CALL_AT = string.len(CLOCK) - string.len('clock') + string.len('call:') + 1
local SESSION_AT = CALL_AT - string.len('call:') + string.len('session:')

local function call_of(call_key) return string.sub(call_key, CALL_AT) end
local function session_of(session_key) return string.sub(session_key, SESSION_AT) end
