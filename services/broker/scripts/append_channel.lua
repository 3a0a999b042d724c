-- Appends to a gateway's channel, bounded in bytes. An entry's id is the running total of bytes, so what is unread is
-- the difference to what was read.
-- KEYS: alive, channel, account   ARGV: entry, limit
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2], KEYS[3])
  return 'dead'
end
local account = redis.call('HMGET', KEYS[3], 'total', 'read')
local total, read, size = tonumber(account[1] or 0), tonumber(account[2] or 0), #ARGV[1] + 1
if total - read + size > tonumber(ARGV[2]) then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', 0)
  total = total + 1
  redis.call('XADD', KEYS[2], text(total) .. '-0', 'o', '')
  redis.call('HSET', KEYS[3], 'total', text(total), 'read', text(total))
  return 'overrun'
end
total = total + size
redis.call('XADD', KEYS[2], text(total) .. '-0', 'e', ARGV[1])
redis.call('HSET', KEYS[3], 'total', text(total))
return 'kept'
