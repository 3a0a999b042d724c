-- Moves items from a list's head into pending, numbered, as long as no more than the limit are pending, and answers
-- everything pending.
-- KEYS: list, lease, state, pending   ARGV: token, limit
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'list' and kind ~= 'none' then return 'not a list' end
local pending = redis.call('HGETALL', KEYS[4])
local room = tonumber(ARGV[2]) - #pending / 2
if room <= 0 then return pending end
local items = redis.call('LPOP', KEYS[1], room) or {}
-- Numbers begin anew for a list that brought nothing for a month: what had them is long settled.
if #items > 0 then redis.call('EXPIRE', KEYS[3], 2592000) end
for _, item in ipairs(items) do
  local number = redis.call('HINCRBY', KEYS[3], 'number', 1)
  redis.call('HSET', KEYS[4], number, item)
  pending[#pending + 1] = text(number)
  pending[#pending + 1] = item
end
return pending
