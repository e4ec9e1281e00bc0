package reason

// helps say what an operator may do about packets with this reason: one sentence, for whoever is on call.
var helps = [Count]string{
	Truncated:         "Someone sends packets that end inside a header: find the sender with tcpdump on its segment; a NIC or tunnel that cuts frames shows up here too.",
	BadIPHeader:       "The IP header contradicts itself: a broken or hostile sender, nothing to change here.",
	BadL4Header:       "The TCP or UDP header contradicts itself: a broken or hostile sender, nothing to change here.",
	NotIP:             "Given to the kernel: ARP and other protocols behind Ethernet; nothing to do.",
	NotL4:             "Given to the kernel: IP protocols that weir does not balance, ping for example; nothing to do.",
	Fragment:          "Given to the kernel: fragments of protocols that weir does not balance, large pings for example; nothing to do.",
	ICMPError:         "Given to the kernel: ICMP errors about packets of no connection, late ones for example; nothing to do.",
	IPsec:             "Given to the kernel: AH and ESP packets whose sender has no ISAKMP connection (UDP port 500) to a service, or one by FULLNAT; nothing to do unless clients miss a VPN.",
	NoService:         "Given to the kernel: no rule is for this address, protocol and port; compare with weiradm -Ln if clients miss a service.",
	NoConnection:      "Given to the kernel: packets of connections that weir does not know, after a restart or a timeout; clients get a reset and open anew.",
	LocalServer:       "Given to the kernel: the chosen server is this host itself; nothing to do.",
	NotUnicast:        "Given to the kernel: packets to a service by broadcast or multicast, which IPVS leaves alone too; nothing to do.",
	SourceRoute:       "Given to the kernel: IPv4 packets with a source route or broken options, which it drops unless accept_source_route is set; nothing to do.",
	Martian:           "Forged sources: someone sends from addresses that no client has, 127.0.0.1 or the VIP itself; filter them at the network's edge (RFC 2827).",
	StrayAnswer:       "A server answers on connections that have ended: its own timeouts are longer than weir's, see weiradm --set.",
	DropPacket:        "The option drop_packet refuses one in so many new connections: it is on, or memory was short.",
	NoServer:          "Every server of a service is at weight 0 or over its threshold: see weiradm -Ln --thresholds, give a server weight or add one.",
	ServerRemoved:     "Clients still talk to a server that was removed: drain a server before you remove it (weiradm drain), or add it again.",
	ServerUnreachable: "A server has no route or does not answer ARP: weiradm status names it; look at its link and at ip neigh.",
	TTLExceeded:       "Packets arrive at the end of their lifetime: a routing loop before weir, or a traceroute.",
	TooBig:            "Packets do not fit the way to the server and say that they must not be cut; their senders are told: raise the MTU there by the tunnel's overhead, or lower what clients send (MSS).",
	TableFull:         "The connection table is full: restart with a larger --connections, or shorten timeouts with weiradm --set.",
	PortsExhausted:    "FULLNAT has no local port left towards a server: add another --local-address.",
	CannotCross:       "FULLNAT between IPv4 and IPv6 has no word for it: an ICMP error that the other version does not know, or pieces of a UDP datagram without a checksum.",
	ReplyConflict:     "Two services share a NAT server and port, and a client used one port for both: give the server another port, or use FULLNAT.",
	FragmentHeld:      "Fragments waited for their datagram's first one, as links and queues reorder, or for its last where NAT changes SCTP's port; nothing to do while fragment-late stays low.",
	FragmentLate:      "The first fragment of a datagram, or the last of an SCTP one, did not come within 30 seconds: packets are lost before weir, or someone sends pieces that belong to nothing.",
	FragmentDuplicate: "Fragments come twice: the network before weir doubles packets.",
	FragmentOverlap:   "Datagrams whose fragments overlap are dropped whole: no sound sender makes them, it is an attack or a broken device.",
	FragmentTableFull: "More datagrams in pieces than weir keeps track of: a flood of fragments, or traffic whose MTU should be lowered.",
	BadQuote:          "ICMP errors about weir's own tunnels that say nothing to a client: look at the way to the TUN servers and at the servers' tunnels.",
	NoTxRoom:          "An interface transmits more slowly than packets come: its link is saturated or down, see weiradm status.",
	HostRefused:       "More packets for this host than --host-rate lets through: a scan or a flood if it is not yours, else raise --host-rate.",
}

// Help returns one sentence on what an operator may do about packets that were stopped for r.
func (r Reason) Help() string {
	if r < Count && helps[r] != "" {
		return helps[r]
	}
	return "Nothing is known about this reason."
}
