-- What all scripts share. Each file of this folder is sent behind this text, behind a shebang with its flags.
-- The identity of process and data, and its replication offset. Another identity means that writes may have been taken back.
-- A demoted primary may keep its replication ID and hold old data, so the role is part of the same look.
local function life()
  local info = redis.call('INFO', 'server', 'replication')
  if not string.find(info, 'role:master', 1, true) then
    error({ err = "READONLY You can't write against a read only replica." })
  end
  local id = string.match(info, 'run_id:(%w+)') .. ':' .. string.match(info, 'master_replid:(%w+)')
  return id, string.match(info, 'master_repl_offset:(%d+)')
end

-- The server's clock in milliseconds.
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Numbers as text without exponent.
local function text(number)
  return string.format('%.0f', number)
end

local function halves(id)
  local milliseconds, sequence = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(milliseconds), sequence
end

-- Ids compare by both halves; the second may be larger than Lua's numbers are exact.
local function below(a, b)
  local am, as = halves(a)
  local bm, bs = halves(b)
  if am ~= bm then return am < bm end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end

local function last_id(stream)
  if redis.call('EXISTS', stream) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

-- Remembers which ids a raise skipped: one that was given and lies there is lost.
local function remember_raise(run, present, before, raised)
  local raises = {}
  for raise in string.gmatch(redis.call('HGET', run, 'raises') or '', '[^\n]+') do raises[#raises + 1] = raise end
  raises[#raises + 1] = present .. ' ' .. before .. ' ' .. raised
  if #raises > 8 then
    table.remove(raises, 1)
    redis.call('HSET', run, 'raises_forgotten', 1)
  end
  redis.call('HSET', run, 'raises', table.concat(raises, '\n'))
end

-- The birth of a partition that has none yet. It may have had one before everything was deleted, so the birth lies above
-- every id that may have been given, as a raise does.
local function birth()
  return text(now() + 600000) .. '-0'
end

-- After a failover, and only then, raises the queue's last id above every id that may have been given. Answers life and
-- replication offset.
local function raise(queue, run, known)
  local present, position = life()
  local former = redis.call('HGET', run, 'life')
  if former == present then return present, position end
  local last = last_id(queue)
  local floor = math.max(now() + 600000, (halves(last)) + 1, (halves(known)) + 1)
  local id = redis.call('XADD', queue, text(floor) .. '-0', 'e', '')
  redis.call('XDEL', queue, id)
  local born = redis.call('HGET', run, 'birth')
  -- Before its first raise a partition has given no id: what is known to have been given is of one that was deleted.
  if not born or (not former and not below(known, born)) then redis.call('HSET', run, 'birth', id) end
  redis.call('HSET', run, 'life', present)
  remember_raise(run, present, last, id)
  return present, position
end

-- A fencing token greater than all before. The clock is in it because a failover may take the last one back, and no
-- token may ever be given twice.
local function next_token(state)
  local time = redis.call('TIME')
  local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local token = text(math.max(tonumber(redis.call('HGET', state, 'token') or 0) + 1, clock))
  redis.call('HSET', state, 'token', token)
  return token
end

-- Where a partition stands: head or false, last id, birth, clock, life, and below which cursors nothing can be proved.
local function stand(queue, run)
  local head = redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)
  return {
    head[1] and head[1][1] or false,
    last_id(queue),
    redis.call('HGET', run, 'birth') or birth(),
    text(now()) .. '-0',
    (life()),
    redis.call('HGET', run, 'doubt'),
  }
end
