-- Before keys are overwritten or removed. KEYS: they. ARGV[1]: '1' if only those are that are absent.
for _, key in ipairs(KEYS) do
    if ARGV[1] ~= '1' or redis.call('EXISTS', key) == 0 then untag(key) end
end
return 0
