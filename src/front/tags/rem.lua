-- TAG.REM. KEYS[1]: the key. ARGV: the tags.
local key, removed = KEYS[1], 0
for _, tag in ipairs(ARGV) do
    if redis.call('HDEL', record(key), tag) == 1 then
        removed = removed + 1
        leave(tag, key)
    end
end
-- What a key had that has expired is not told.
return redis.call('EXISTS', key) * removed
