# Completion of weirlab's command lines for fish. Made from the flags of weirlab.
function __weirlab_words_files
    __fish_complete_path "$argv[2]" | string replace -r -- '^' "$argv[1]"
end
function __weirlab_words
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l before $words[-1]
    set -l at 2
    set -l glue
    if string match -qr -- '^--[^=]+=' $word
        set before (string replace -r -- '=.*' '' $word)
        set glue $before=
        set word (string replace -- $glue '' $word)
    end
    if test (math (count $words) + 1) -eq $at -a -z "$glue"
        printf '%s\n' demo up down --family\t'IP VERSION that demo shows: 4, 6 or both' --help\t'print this help and exit' -h\t'print this help and exit' --weir\t'PATH of the weir to run (default: the one beside this program)' bench changes
        return
    end
    switch "$words[$at]"
        case 'bench'
            switch $before
                case '--weir'
                    __weirlab_words_files "$glue" "$word"
                case '--against'
                    __weirlab_words_files "$glue" "$word"
                case '--bare'
                    __weirlab_words_files "$glue" "$word"
                case '--runs'
                    return
                case '--time'
                    return
                case '--save'
                    __weirlab_words_files "$glue" "$word"
                case '--benchmarks'
                    __weirlab_words_files "$glue" "$word"
                case '--only'
                    return
                case '--layout'
                    string replace -r -- '^' "$glue" own-cpu one-cpu
                case '--mode'
                    string replace -r -- '^' "$glue" dr nat fullnat tun
                case '--family'
                    string replace -r -- '^' "$glue" 4 6 both
                case '--arms'
                    return
                case '--flows'
                    return
                case '--traffic'
                    string replace -r -- '^' "$glue" udp tcp-syn tcp-ack tcp-mix
                case '--size'
                    return
                case '--servers'
                    return
                case '--rate'
                    return
                case '*'
                    printf '%s\n' --weir\t'PATH of the weir to run (default: the one beside this program)' --against\t'PATH of another build of weir to measure beside it; repeatable' --bare\t'PATH of the bare forwarder (default: the one beside this program)' --runs\t'trials of each candidate under each load' --time\t'that each trial measures' --json\t'print JSON with every sample instead of tables' --save\t'FILE that gets the same JSON beside what is printed' --benchmarks\t'FILE with what go test -bench printed in bench/, for the table of goals' --quick\t'one run of 200 ms each of some: shows that it works, not how fast' --tcp\t'only TCP: requests, connections and bytes per second (wrk, iperf3, nginx, HAProxy)' --only\t'candidates whose names contain one of these WORDS, commas between them' --layout\t'own-cpu: the director has the last CPU, generator and interrupts the first; one-cpu: all share one' --mode\t'dr, nat, fullnat or tun; several, commas between them, are measured in turn' --family\t'IP VERSION: 4, 6 (weir alone, frames of 84 bytes at least, no --rate) or both, in turn' --arms\t'interfaces of the director: 1 or 2' --flows\t'connections: 1 to 1000000' --traffic\t'udp, tcp-syn, tcp-ack or tcp-mix (a SYN to ten ACKs); of TCP the servers\' answers are missing' --size\t'of frames in bytes, FCS included: 64 to 1518; or imix, 7 of 64, 4 of 594 and one of 1518' --servers\t'1 to 100' --rate\t'packets per second, evenly, and their latency; 0: as many as the generator can' --search\t'find the highest rate with at most 0.1 % loss too' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'changes'
            switch $before
                case '--weir'
                    __weirlab_words_files "$glue" "$word"
                case '--services'
                    return
                case '--servers'
                    return
                case '--singles'
                    return
                case '--rate'
                    return
                case '--time'
                    return
                case '--packets'
                    return
                case '--flows'
                    return
                case '--connections'
                    return
                case '--only'
                    string replace -r -- '^' "$glue" restore list single load
                case '*'
                    printf '%s\n' --weir\t'PATH of the weir to run, with weiradm beside it (default: the one beside this program)' --services\t'that are loaded: 4 to 100000' --servers\t'of each service: 1 to 80, at most 1000000 in all' --singles\t'changes that are timed one after the other' --rate\t'changes a second under load: 1 to 10000' --time\t'of the load with changes, and of the one without' --packets\t'a second: 1000 to 1e7' --flows\t'connections that they belong to: 1 to 1000000' --connections\t'in the table that is paged through; 0: none is, at most 16000000' --only\t'of these PARTS, commas between them: restore, list, single, load; the paging is --connections\'' --quick\t'little of everything: shows in seconds that it works, not how fast' --json\t'print JSON instead of tables' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case '*'
            switch $before
                case '--family'
                    string replace -r -- '^' "$glue" 4 6 both
                case '--weir'
                    __weirlab_words_files "$glue" "$word"
                case '*'
                    printf '%s\n' demo up down --family\t'IP VERSION that demo shows: 4, 6 or both' --help\t'print this help and exit' -h\t'print this help and exit' --weir\t'PATH of the weir to run (default: the one beside this program)'
            end
    end
end
complete -c weirlab -f -a '(__weirlab_words)'
