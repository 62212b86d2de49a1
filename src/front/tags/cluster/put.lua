-- SET, and the tags of the value. KEYS: the key, what is kept of its tags. ARGV: how many tags there
-- are; for each its name and its number; the value and the options of SET.
-- Returns whether the value is there, and what SET replied.
local key, record, count = KEYS[1], KEYS[2], tonumber(ARGV[1])
local had = redis.call('EXISTS', key) == 1
local only_new, only_old = false, false
for at = 2 * count + 3, #ARGV do
    local word = string.upper(ARGV[at])
    only_new = only_new or word == 'NX'
    only_old = only_old or word == 'XX'
end
local reply = redis.pcall('SET', key, unpack(ARGV, 2 * count + 2))
if type(reply) == 'table' and reply.err then return reply end
if (only_new and had) or (only_old and not had) then return {0, reply} end
redis.call('DEL', record)
-- Its time may have passed already.
if redis.call('EXISTS', key) == 0 then return {0, reply} end
for at = 2, 2 * count, 2 do redis.call('HSET', record, ARGV[at], ARGV[at + 1]) end
return {1, reply}
