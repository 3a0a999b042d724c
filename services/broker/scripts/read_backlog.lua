-- What waits in a queue: its length, its head's id or false, and the server's clock.
-- KEYS: queue
local head = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return { redis.call('XLEN', KEYS[1]), head[1] and head[1][1] or false, text(now()) }
