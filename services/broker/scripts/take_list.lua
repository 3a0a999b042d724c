-- Moves items from a list's head into pending, numbered, and answers everything pending.
-- KEYS: list, lease, state, pending   ARGV: token, limit
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'list' and kind ~= 'none' then return 'not a list' end
local items = redis.call('LPOP', KEYS[1], ARGV[2]) or {}
for _, item in ipairs(items) do
  redis.call('HSET', KEYS[4], redis.call('HINCRBY', KEYS[3], 'number', 1), item)
end
return redis.call('HGETALL', KEYS[4])
