# generate.awk - makes the C tables of mdm_catalog.c from the two lists.
#
#   awk -f generate.awk commands.tsv keys.tsv > mdm_catalog_table.inc
#
# A key's descendants follow it; `end` is the row behind the last of them, so
# the tree needs no pointers.  Stops with a message where a list is wrong.
# POSIX awk, as building needs no other program.
BEGIN {
    FS = "\t"
    nsystem = split("iOS macOS tvOS visionOS watchOS", system_name, " ")
    for (i = 1; i <= nsystem; i++) {
        bit[system_name[i]] = i - 1
    }
    bit["SharediPad"] = nsystem
    split("string data int bool array dict any choice value", word, " ")
    for (i in word) {
        known_type[word[i]] = 1
    }
    nkeys = ncommands = ndepth = 0
    nsystems = 1
    systems_row[0] = "{{0}, {0}}"
}

function fail(what) {
    printf "%s:%d: %s\n", FILENAME, FNR, what > "/dev/stderr"
    failed = 1
    exit 1
}

function system_of(name) {
    if (!(name in bit)) {
        fail("no such system: " name)
    }
    return bit[name]
}

# "10.11.5" as 101105
function version(text,    v, n) {
    if (text !~ /^[0-9]+\.[0-9]+(\.[0-9]+)?$/) {
        fail("not a version: " text)
    }
    n = split(text, v, ".")
    return v[1] * 10000 + v[2] * 100 + (n > 2 ? v[3] : 0)
}

# "iOS=4.0-26.0 macOS=10.7": the number of a row of versions
function systems(text,    word, n, i, pair, range, since, until, row) {
    for (i = 0; i < nsystem; i++) {
        since[i] = until[i] = 0
    }
    n = split(text, word, " ")
    for (i = 1; i <= n; i++) {
        if (split(word[i], pair, "=") != 2) {
            fail("not system=version: " word[i])
        }
        if (split(pair[2], range, "-") == 2) {
            until[system_of(pair[1])] = version(range[2])
        }
        since[system_of(pair[1])] = version(range[1])
    }
    row = "{{"
    for (i = 0; i < nsystem; i++) {
        row = row (i ? ", " : "") since[i]
    }
    row = row "}, {"
    for (i = 0; i < nsystem; i++) {
        row = row (i ? ", " : "") until[i]
    }
    row = row "}}"
    if (!(row in systems_number)) {
        systems_number[row] = nsystems
        systems_row[nsystems++] = row
    }
    return systems_number[row]
}

# Names as a mask
function mask(text,    word, n, i, m) {
    m = 0
    n = text == "-" ? 0 : split(text, word, /[ +]/)
    for (i = 1; i <= n; i++) {
        m += 2 ^ system_of(word[i])
    }
    return m
}

# "iOS=D macOS=DU" as masks of device and user channels
function channels(text,    word, n, i, pair, device, user) {
    device = user = 0
    n = split(text, word, " ")
    for (i = 1; i <= n; i++) {
        split(word[i], pair, "=")
        device += pair[2] ~ /D/ ? 2 ^ system_of(pair[1]) : 0
        user += pair[2] ~ /U/ ? 2 ^ system_of(pair[1]) : 0
    }
    return device ", " user
}

# "4096=iOS+tvOS": the bit and where it counts
function right(text,    pair) {
    if (split(text, pair, "=") == 2) {
        return pair[1] ", " mask(pair[2])
    }
    return (text == "-" ? 0 : text == "query" ? -1 : text) ", 63"
}

function quoted(text) {
    if (text ~ /["\\]/) {
        fail("a character that is not expected: " text)
    }
    return text == "-" ? "NULL" : "\"" text "\""
}

function close_keys(depth) {
    while (ndepth > depth) {
        key_end[open_key[ndepth--]] = nkeys
    }
}

function parent_of(path) {
    sub(/(\.[^.\[]*|\[[^\]]*\])$/, "", path)
    return path
}

FNR == 1 {
    file++
    next
}

file == 1 {
    if (NF != 8) {
        fail(NF " columns instead of 8")
    }
    command[ncommands++] = $1
    first[$1] = last[$1] = 0
    command_row[$1] = systems($2) ", " channels($3) ", " mask($4) ", " \
        mask($5) ", " mask($6) ", " right($7) ", " \
        ($8 == "yes" ? "true" : "false")
    next
}

{
    if (NF != 10) {
        fail(NF " columns instead of 10")
    }
    if ($1 != current) {
        close_keys(0)
        if (($1 != "*" && !($1 in first)) || ($1 in begun)) {
            fail("not one block of a known command: " $1)
        }
        begun[$1] = 1
        first[$1] = nkeys + 0
        current = $1
    }
    path = $2
    name = path
    depth = gsub(/[.\[]/, "&", path) + 1
    parent = parent_of($2)
    if (depth > 1) {
        name = substr($2, length(parent) + 2)
        sub(/\]$/, "", name)
    }
    close_keys(depth - 1)
    if (ndepth != depth - 1 || (depth > 1 && open_path[depth - 1] != parent)) {
        fail("is not below the key before it: " $2)
    }
    if (!($3 in known_type)) {
        fail("no such type: " $3)
    }
    low = high = 0
    if ($7 != "-") {
        split($7, size, "-")
        low = size[1]
        high = size[2]
    }
    key_name[nkeys] = name
    key_row[nkeys] = "MDM_CATALOG_" toupper($3) ", " \
        ($4 == "required" ? "true" : "false") ", " \
        ($10 == "yes" ? "true" : "false") ", " mask($8) ", " mask($9) ", " \
        ($5 == "=" ? 0 : systems($5)) ", " low ", " high ", " quoted($6)
    open_key[++ndepth] = nkeys++
    open_path[ndepth] = $2
    last[$1] = nkeys
}

END {
    if (failed) {
        exit 1
    }
    close_keys(0)
    print "/* Made by generate.awk. */"
    print "static const mdm_catalog_systems_t systems_table[] = {"
    for (i = 0; i < nsystems; i++) {
        print "    " systems_row[i] ","
    }
    print "};\nstatic const mdm_catalog_key_t key_table[] = {"
    for (i = 0; i < nkeys; i++) {
        print "    {\"" key_name[i] "\", " key_end[i] ", " key_row[i] "},"
    }
    print "};\nstatic const mdm_catalog_command_t command_table[] = {"
    for (i = 0; i < ncommands; i++) {
        c = command[i]
        print "    {\"" c "\", " first[c] ", " last[c] ", " command_row[c] "},"
    }
    print "};"
    print "#define MDM_CATALOG_COMMON_FIRST " first["*"]
    print "#define MDM_CATALOG_COMMON_END " last["*"]
}
