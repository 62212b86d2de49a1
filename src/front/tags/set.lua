-- SET, and the tags of the value.
-- KEYS[1]: the key. ARGV: `corral:seq` when the value's making began, or nothing for now; how many
-- tags there are; the tags; the value and the options of SET.
local key, since, count = KEYS[1], ARGV[1], tonumber(ARGV[2])
local had = redis.call('EXISTS', key) == 1
local only_new, only_old = false, false
for at = count + 4, #ARGV do
    local word = string.upper(ARGV[at])
    only_new = only_new or word == 'NX'
    only_old = only_old or word == 'XX'
end
local reply = redis.pcall('SET', key, unpack(ARGV, count + 3))
if type(reply) == 'table' and reply.err then return reply end
if (only_new and had) or (only_old and not had) then return reply end
untag(key)
-- Its time may have passed already.
if redis.call('EXISTS', key) == 0 then return reply end
for at = 3, count + 2 do
    local gone = since ~= '' and redis.call('GET', 'corral:gone:' .. ARGV[at])
    if gone and tonumber(gone) > tonumber(since) then
        -- It was stored, and then came the invalidation.
        untag(key)
        redis.call('UNLINK', key)
        return reply
    end
    give(key, ARGV[at], now())
end
return reply
