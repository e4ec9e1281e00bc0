# Completion of weiradm's command lines for fish. Made from the flags of weiradm.
function __weiradm_words_files
    __fish_complete_path "$argv[2]" | string replace -r -- '^' "$argv[1]"
end
function __weiradm_words
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
    if contains -- "$words[2]" --socket
        set at 4
    else if string match -qr -- '^(--socket)=' "$words[2]"
        set at 3
    end
    if test (count $words) -eq 2 -a $at -eq 4; or test (count $words) -eq 1 -a -n "$glue"
        switch $before
                case '--socket'
                    __weiradm_words_files "$glue" "$word"
        end
        return
    end
    if test (math (count $words) + 1) -eq $at -a -z "$glue"
        printf '%s\n' -A --add-service -E --edit-service -D --delete-service -C --clear -L --list -l --list -Z --zero -a --add-server -e --edit-server -d --delete-server --set -h --help -v --version -V -R --restore -S --save --start-daemon --stop-daemon status\t'shows the whole director on one screen, and what to do about what is wrong.' top\t'shows what services and servers carry, live, the busiest first.' connections\t'shows the connection table, page by page, without holding up a packet.' trace\t'says where a packet would go if it came now, and why. It changes nothing.' capture\t'writes packets to a file, as they came and as they went, for tcpdump, tshark and Wireshark (pcapng).' drain\t'takes a server to weight 0 in every service that has it, and waits until its last connection has ended.' completion\t'prints what makes a shell complete weiradm\'s command lines, ipvsadm\'s grammar included.' --socket\t'PATH of weir\'s socket'
        return
    end
    switch "$words[$at]"
        case '-A' '--add-service'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '-s' '--scheduler'
                    string replace -r -- '^' "$glue" dh fo lblc lblcr lc maglev mh nq ovf rr sed sh twos wlc wrr
                case '-p' '--persistent'
                    return
                case '-M' '--netmask'
                    return
                case '--pe'
                    return
                case '-b' '--sched-flags'
                    string replace -r -- '^' "$glue" sh-fallback sh-port mh-fallback mh-port flag-1 flag-2 flag-3
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -s --scheduler -p --persistent -M --netmask -6 --ipv6 -o --ops --pe -b --sched-flags
            end
        case '-E' '--edit-service'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '-s' '--scheduler'
                    string replace -r -- '^' "$glue" dh fo lblc lblcr lc maglev mh nq ovf rr sed sh twos wlc wrr
                case '-p' '--persistent'
                    return
                case '-M' '--netmask'
                    return
                case '--pe'
                    return
                case '-b' '--sched-flags'
                    string replace -r -- '^' "$glue" sh-fallback sh-port mh-fallback mh-port flag-1 flag-2 flag-3
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -s --scheduler -p --persistent -M --netmask -6 --ipv6 -o --ops --pe -b --sched-flags
            end
        case '-D' '--delete-service'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6
            end
        case '-C' '--clear'
            switch $before
            end
        case '-L' '--list'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '--syncid'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -n --numeric -c --connection --syncid --timeout --daemon --stats --rate --thresholds --persistent-conn --nosort --sort -X --exact -6 --ipv6 --tun-info
            end
        case '-l' '--list'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '--syncid'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -n --numeric -c --connection --syncid --timeout --daemon --stats --rate --thresholds --persistent-conn --nosort --sort -X --exact -6 --ipv6 --tun-info
            end
        case '-Z' '--zero'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6
            end
        case '-a' '--add-server'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '-r' '--real-server'
                    return
                case '-w' '--weight'
                    return
                case '-x' '--u-threshold'
                    return
                case '-y' '--l-threshold'
                    return
                case '--tun-type'
                    string replace -r -- '^' "$glue" ipip gue gre
                case '--tun-port'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -r --real-server -g --gatewaying -i --ipip -m --masquerading -F --fullnat -w --weight -x --u-threshold -y --l-threshold -6 --ipv6 --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum
            end
        case '-e' '--edit-server'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '-r' '--real-server'
                    return
                case '-w' '--weight'
                    return
                case '-x' '--u-threshold'
                    return
                case '-y' '--l-threshold'
                    return
                case '--tun-type'
                    string replace -r -- '^' "$glue" ipip gue gre
                case '--tun-port'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -r --real-server -g --gatewaying -i --ipip -m --masquerading -F --fullnat -w --weight -x --u-threshold -y --l-threshold -6 --ipv6 --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum
            end
        case '-d' '--delete-server'
            switch $before
                case '-t' '--tcp-service'
                    return
                case '-u' '--udp-service'
                    return
                case '--sctp-service'
                    return
                case '-f' '--fwmark-service'
                    return
                case '-r' '--real-server'
                    return
                case '*'
                    printf '%s\n' -t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -r --real-server -6 --ipv6
            end
        case '--set'
            switch $before
            end
        case '-h' '--help'
            switch $before
            end
        case '-v' '--version' '-V'
            switch $before
            end
        case '-R' '--restore'
            switch $before
                case '*'
                    printf '%s\n' --atomic
            end
        case '-S' '--save'
            switch $before
                case '*'
                    printf '%s\n' -n --numeric
            end
        case '--start-daemon'
            switch $before
                case '--mcast-interface'
                    string replace -r -- '.*/' "$glue" /sys/class/net/*
                case '--mcast-group'
                    return
                case '--mcast-port'
                    return
                case '--mcast-ttl'
                    return
                case '--sync-maxlen'
                    return
                case '--syncid'
                    return
                case '*'
                    printf '%s\n' --mcast-interface --mcast-group --mcast-port --mcast-ttl --sync-maxlen --syncid
            end
        case '--stop-daemon'
            switch $before
                case '--syncid'
                    return
                case '*'
                    printf '%s\n' --syncid
            end
        case 'status'
            switch $before
                case '*'
                    printf '%s\n' --all\t'every reason and every unreachable server, not just the first' -a\t'every reason and every unreachable server, not just the first' --json\t'print JSON, for programs' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'top'
            switch $before
                case '--interval'
                    return
                case '--rounds'
                    return
                case '*'
                    printf '%s\n' --interval\t'TIME between two rounds, 100ms to 1m' --rounds\t'leave after N rounds; 0: never' --json\t'print JSON, for programs' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'connections'
            switch $before
                case '--client'
                    return
                case '--virtual'
                    return
                case '--server'
                    return
                case '--local'
                    return
                case '--protocol'
                    string replace -r -- '^' "$glue" tcp udp sctp
                case '--state'
                    string replace -r -- '^' "$glue" none established syn_sent syn_recv fin_wait time_wait close close_wait last_ack listen synack udp assured init1 init c-sent c-replied c-wait cookie c-echoed s-sent s-received s-ack-sent rejected closed
                case '--mode'
                    string replace -r -- '^' "$glue" dr nat fullnat tun local
                case '--templates'
                    string replace -r -- '^' "$glue" only no
                case '--limit'
                    return
                case '*'
                    printf '%s\n' --client\t'only those whose client is END' --virtual\t'only those to the service address END' --server\t'only those to the server END' --local\t'only those that FULLNAT brings from END' --protocol\t'only this PROTOCOL: tcp, udp, sctp' --state\t'only those in this STATE, as established' --mode\t'only this MODE: dr, nat, fullnat, tun, local' --templates\t'persistence templates, WHICH: only, no; otherwise too' --limit\t'show N at most; 0: all' --count\t'print only how many there are' -c\t'print only how many there are' --json\t'print JSON, for programs' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'trace'
            switch $before
                case '--flags'
                    return
                case '*'
                    printf '%s\n' tcp udp sctp --flags\t'TCP FLAGS of the packet, letters of FSRPAU' --json\t'print JSON, for programs' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'capture'
            switch $before
                case '--client'
                    return
                case '--virtual'
                    return
                case '--server'
                    return
                case '--local'
                    return
                case '--protocol'
                    string replace -r -- '^' "$glue" tcp udp sctp
                case '--state'
                    string replace -r -- '^' "$glue" none established syn_sent syn_recv fin_wait time_wait close close_wait last_ack listen synack udp assured init1 init c-sent c-replied c-wait cookie c-echoed s-sent s-received s-ack-sent rejected closed
                case '--mode'
                    string replace -r -- '^' "$glue" dr nat fullnat tun local
                case '--write' '-w'
                    __weiradm_words_files "$glue" "$word"
                case '--count' '-c'
                    return
                case '--bytes'
                    return
                case '--seconds'
                    return
                case '--snaplen' '-s'
                    return
                case '*'
                    printf '%s\n' --client\t'only those whose client is END' --virtual\t'only those to the service address END' --server\t'only those to the server END' --local\t'only those that FULLNAT brings from END' --protocol\t'only this PROTOCOL: tcp, udp, sctp' --state\t'only those in this STATE, as established' --mode\t'only this MODE: dr, nat, fullnat, tun, local' --write\t'FILE to write; -: standard output' -w\t'FILE to write; -: standard output' --count\t'end after N frames' -c\t'end after N frames' --bytes\t'end after N bytes of frames' --seconds\t'end after N seconds, 86400 at most' --snaplen\t'only the first N bytes of each frame, 14 and more; 0: all' -s\t'only the first N bytes of each frame, 14 and more; 0: all' --json\t'print JSON, for programs' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'drain'
            switch $before
                case '--timeout'
                    return
                case '*'
                    printf '%s\n' --timeout\t'wait for so long a TIME at most, as 5m; 0: until the last connection has ended' --remove\t'then remove it from those services, also when the time is over and connections are left' --json\t'print JSON, for programs' --help\t'print this help and exit' -h\t'print this help and exit'
            end
        case 'completion'
            switch $before
                case '*'
                    printf '%s\n' bash zsh fish --help\t'print this help and exit' -h\t'print this help and exit'
            end
    end
end
complete -c weiradm -f -a '(__weiradm_words)'
