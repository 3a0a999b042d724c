-- These gateways were told that they missed something.
-- KEYS: lease, park   ARGV: token, life, then each gateway
if redis.call('GET', KEYS[1]) ~= ARGV[1] or life() ~= ARGV[2] then return 0 end
redis.call('SREM', KEYS[2], unpack(ARGV, 3))
return 1
