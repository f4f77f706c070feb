-- Puts one change of a room in order, if it can be carried out, and tells the replicas.
-- KEYS: room, participants, events, chat, removed
-- ARGV: operation, user, connection, value, capacity, change, channel, removed at, life in seconds, changes kept, chat kept
local operation, user = ARGV[1], ARGV[2]
local stored = user ~= '' and redis.call('HGET', KEYS[2], user)
if operation == 'set' or operation == 'del' then
  if not stored or cjson.decode(stored).connectionId ~= ARGV[3] then return 'stale' end
end
if operation == 'put' then
  if not stored and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[5]) then return 'full' end
  redis.call('HSET', KEYS[2], user, ARGV[4])
elseif operation == 'set' then
  redis.call('HSET', KEYS[2], user, ARGV[4])
elseif operation == 'del' then
  redis.call('HDEL', KEYS[2], user)
  if ARGV[8] ~= '' then redis.call('HSET', KEYS[5], user, ARGV[8]) end
elseif operation == 'chat' then
  redis.call('RPUSH', KEYS[4], ARGV[4])
  redis.call('LTRIM', KEYS[4], -tonumber(ARGV[11]), -1)
end
local seq = redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[10], '*', 'change', ARGV[6])
redis.call('HSET', KEYS[1], 'participantCount', redis.call('HLEN', KEYS[2]))
for i = 1, 5 do redis.call('EXPIRE', KEYS[i], ARGV[9]) end
redis.call('PUBLISH', ARGV[7], '{"seq":"' .. seq .. '","change":' .. ARGV[6] .. '}')
return 'ordered'
