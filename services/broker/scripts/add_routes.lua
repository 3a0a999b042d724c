-- Adds a route to rooms of a partition and reads where they stand: adding a route is a join.
-- KEYS: queue, run, then per room: routes, last offset   ARGV: route
-- A partition is born with its first join, too: what a client is told then it may come back with.
redis.call('HSETNX', KEYS[2], 'birth', birth())
local last = {}
for i = 3, #KEYS, 2 do
  redis.call('SADD', KEYS[i], ARGV[1])
  redis.call('EXPIRE', KEYS[i], 86400)
  last[#last + 1] = redis.call('GET', KEYS[i + 1])
end
return { last, stand(KEYS[1], KEYS[2]) }
