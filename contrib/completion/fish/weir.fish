# Completion of weir's command lines for fish. Made from the flags of weir.
function __weir_words_files
    __fish_complete_path "$argv[2]" | string replace -r -- '^' "$argv[1]"
end
function __weir_words
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
        printf '%s\n' --interface\t'IFACE to serve, all its queues; repeat for client and server side, or one for both' -i\t'IFACE to serve, all its queues; repeat for client and server side, or one for both' --rule\t'one RULE in ipvsadm\'s grammar; repeat, in order, after those of --rules' -r\t'one RULE in ipvsadm\'s grammar; repeat, in order, after those of --rules' --rules\t'FILE of rules as \'ipvsadm -S -n\' prints them, read again at SIGHUP' -f\t'FILE of rules as \'ipvsadm -S -n\' prints them, read again at SIGHUP' --save\t'FILE that keeps the rules as they change; when it exists at the start, it takes the place of --rules and --rule' --admin-socket\t'PATH of the Unix socket that weiradm speaks to; \'\' for none' --metrics-address\t'ADDRESS:PORT where Prometheus finds /metrics, and others /healthz and /readyz; not served if not given' --web-address\t'ADDRESS:PORT where a browser finds a page that shows services, servers, rates and what is wrong; not served if not given' --local-address\t'ADDRESS that FULLNAT talks to servers from; repeatable' -l\t'ADDRESS that FULLNAT talks to servers from; repeatable' --local-ports\t'port RANGE used on local addresses, LOW-HIGH' --tunnel-source\t'PREFIX to take the outer source of tunnelled packets from, by the flow, so that a server spreads them over its queues; one of each IP version' --mss-clamp\t'lower the MSS that TCP\'s first packets name to what fits the ways on both sides, so that nobody depends on ICMP' --assign-addresses\t'put service addresses on the first interface and local addresses on the last, and take them off at stop' --mark\t'RULE that gives packets a firewall mark: \'MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]\'; the first that matches decides' -m\t'RULE that gives packets a firewall mark: \'MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]\'; the first that matches decides' --option\t'NAME=VALUE, an IPVS setting (net.ipv4.vs.NAME): am_droprate, conn_reuse_mode, drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, nat_icmp_send, secure_tcp, sloppy_sctp, sloppy_tcp' -o\t'NAME=VALUE, an IPVS setting (net.ipv4.vs.NAME): am_droprate, conn_reuse_mode, drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, nat_icmp_send, secure_tcp, sloppy_sctp, sloppy_tcp' --connections\t'capacity of the connection table, a NUMBER of connections of 123 to 147 bytes' --cpus\t'LIST of CPUs as 0-3,5: a worker is kept on each of them, queue by queue (default: workers run where the kernel puts them)' --zero-copy\t'zero copy, HOW: auto (where the driver has it), on (or fail), off' --xdp-mode\t'XDP MODE: auto (native, or generic where the driver refuses), native, generic' --busy-poll\t'let the worker drive the NIC\'s queue for this TIME at a time (0: off, 1us to 10ms)' --host-rate\t'NUMBER of packets per second at most that are given back to the kernel' --log-level\t'least LEVEL that is logged: debug, info, warn, error' --log-format\t'FORM of the log on standard error: text, json' --version\t'print the version and exit' -V\t'print the version and exit' --help\t'print this help and exit' -h\t'print this help and exit'
        return
    end
    switch "$words[$at]"
        case '*'
            switch $before
                case '--interface' '-i'
                    string replace -r -- '.*/' "$glue" /sys/class/net/*
                case '--rule' '-r'
                    return
                case '--rules' '-f'
                    __weir_words_files "$glue" "$word"
                case '--save'
                    __weir_words_files "$glue" "$word"
                case '--admin-socket'
                    __weir_words_files "$glue" "$word"
                case '--metrics-address'
                    return
                case '--web-address'
                    return
                case '--local-address' '-l'
                    return
                case '--local-ports'
                    return
                case '--tunnel-source'
                    return
                case '--mark' '-m'
                    return
                case '--option' '-o'
                    return
                case '--connections'
                    return
                case '--cpus'
                    return
                case '--zero-copy'
                    string replace -r -- '^' "$glue" auto on off
                case '--xdp-mode'
                    string replace -r -- '^' "$glue" auto native generic
                case '--busy-poll'
                    return
                case '--host-rate'
                    return
                case '--log-level'
                    string replace -r -- '^' "$glue" debug info warn error
                case '--log-format'
                    string replace -r -- '^' "$glue" text json
                case '*'
                    printf '%s\n' --interface\t'IFACE to serve, all its queues; repeat for client and server side, or one for both' -i\t'IFACE to serve, all its queues; repeat for client and server side, or one for both' --rule\t'one RULE in ipvsadm\'s grammar; repeat, in order, after those of --rules' -r\t'one RULE in ipvsadm\'s grammar; repeat, in order, after those of --rules' --rules\t'FILE of rules as \'ipvsadm -S -n\' prints them, read again at SIGHUP' -f\t'FILE of rules as \'ipvsadm -S -n\' prints them, read again at SIGHUP' --save\t'FILE that keeps the rules as they change; when it exists at the start, it takes the place of --rules and --rule' --admin-socket\t'PATH of the Unix socket that weiradm speaks to; \'\' for none' --metrics-address\t'ADDRESS:PORT where Prometheus finds /metrics, and others /healthz and /readyz; not served if not given' --web-address\t'ADDRESS:PORT where a browser finds a page that shows services, servers, rates and what is wrong; not served if not given' --local-address\t'ADDRESS that FULLNAT talks to servers from; repeatable' -l\t'ADDRESS that FULLNAT talks to servers from; repeatable' --local-ports\t'port RANGE used on local addresses, LOW-HIGH' --tunnel-source\t'PREFIX to take the outer source of tunnelled packets from, by the flow, so that a server spreads them over its queues; one of each IP version' --mss-clamp\t'lower the MSS that TCP\'s first packets name to what fits the ways on both sides, so that nobody depends on ICMP' --assign-addresses\t'put service addresses on the first interface and local addresses on the last, and take them off at stop' --mark\t'RULE that gives packets a firewall mark: \'MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]\'; the first that matches decides' -m\t'RULE that gives packets a firewall mark: \'MARK PROTO DST[/LEN][:PORT[-PORT]] [SRC[/LEN]]\'; the first that matches decides' --option\t'NAME=VALUE, an IPVS setting (net.ipv4.vs.NAME): am_droprate, conn_reuse_mode, drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, nat_icmp_send, secure_tcp, sloppy_sctp, sloppy_tcp' -o\t'NAME=VALUE, an IPVS setting (net.ipv4.vs.NAME): am_droprate, conn_reuse_mode, drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, nat_icmp_send, secure_tcp, sloppy_sctp, sloppy_tcp' --connections\t'capacity of the connection table, a NUMBER of connections of 123 to 147 bytes' --cpus\t'LIST of CPUs as 0-3,5: a worker is kept on each of them, queue by queue (default: workers run where the kernel puts them)' --zero-copy\t'zero copy, HOW: auto (where the driver has it), on (or fail), off' --xdp-mode\t'XDP MODE: auto (native, or generic where the driver refuses), native, generic' --busy-poll\t'let the worker drive the NIC\'s queue for this TIME at a time (0: off, 1us to 10ms)' --host-rate\t'NUMBER of packets per second at most that are given back to the kernel' --log-level\t'least LEVEL that is logged: debug, info, warn, error' --log-format\t'FORM of the log on standard error: text, json' --version\t'print the version and exit' -V\t'print the version and exit' --help\t'print this help and exit' -h\t'print this help and exit'
            end
    end
end
complete -c weir -f -a '(__weir_words)'
