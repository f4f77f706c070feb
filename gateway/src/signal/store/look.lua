-- What a room's state is, kept from expiring; and who writes to the CallRoom.
-- KEYS: room, participants, events, chat, removed, owner, replicas
-- ARGV: uid, last change that is known, replica, whether it would write, life in seconds, life of the right to write in ms
if redis.call('HGET', KEYS[1], 'uid') ~= ARGV[1] then
  -- Of an earlier room of this name, or nothing at all.
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
  redis.call('HSET', KEYS[1], 'uid', ARGV[1], 'participantCount', 0, 'isRecording', 'false', 'sfuRegion', ARGV[7])
end
for i = 1, 5 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
local owner = redis.call('GET', KEYS[6])
if ARGV[4] == '1' and (not owner or owner == ARGV[3]) then
  redis.call('SET', KEYS[6], ARGV[3], 'PX', ARGV[6])
  owner = ARGV[3]
end
local changes = {}
for i, entry in ipairs(redis.call('XRANGE', KEYS[3], '(' .. ARGV[2], '+')) do
  changes[i] = {entry[1], entry[2][2]}
end
local chat, removed = {}, {}
if ARGV[2] == '0-0' then
  chat = redis.call('LRANGE', KEYS[4], 0, -1)
  removed = redis.call('HGETALL', KEYS[5])
end
local time = redis.call('TIME')
local alive = redis.call('ZRANGEBYSCORE', KEYS[7], time[1] * 1000 + math.floor(time[2] / 1000), '+inf')
return {owner or '', redis.call('HVALS', KEYS[2]), changes, chat, removed, alive}
