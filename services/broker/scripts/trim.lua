-- Acknowledges everything below an id. In the same step it writes down which channels did not get it: whoever owns the
-- partition next has to know.
-- KEYS: lease, queue, tries, park   ARGV: token, life, id, then each parked gateway
if redis.call('GET', KEYS[1]) ~= ARGV[1] or life() ~= ARGV[2] then return 0 end
if #ARGV > 3 then
  redis.call('SADD', KEYS[4], unpack(ARGV, 4))
  redis.call('EXPIRE', KEYS[4], 86400)
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
redis.call('DEL', KEYS[3])
return 1
