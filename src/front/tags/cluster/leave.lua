-- Keys leave a tag, but for those that got it again since. KEYS[1]: the tag's members. ARGV: the
-- highest number of those that leave; the keys. Returns whether there are others.
for at = 2, #ARGV do
    local number = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if number and tonumber(number) <= tonumber(ARGV[1]) then
        redis.call('ZREM', KEYS[1], ARGV[at])
    end
end
return redis.call('EXISTS', KEYS[1])
