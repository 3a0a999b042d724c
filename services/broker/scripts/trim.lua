-- Acknowledges everything below an id.
-- KEYS: lease, queue, tries   ARGV: token, life, id
if redis.call('GET', KEYS[1]) ~= ARGV[1] or life() ~= ARGV[2] then return 0 end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
redis.call('DEL', KEYS[3])
return 1
