package reason

// helps say what an operator may do about packets with this reason: one sentence, for whoever is on call.
var helps = [Count]string{
	Truncated:         "Someone sends packets that end inside a header: find the sender with tcpdump on its segment; a NIC or tunnel that cuts frames shows up here too.",
	BadIPHeader:       "The IP header contradicts itself: a broken or hostile sender, nothing to change here.",
	BadL4Header:       "The TCP or UDP header contradicts itself: a broken or hostile sender, nothing to change here.",
	NotIP:             "Given to the kernel: ARP and other protocols behind Ethernet; nothing to do.",
	NotL4:             "Given to the kernel: IP protocols that weir does not balance, ping for example; nothing to do.",
	Fragment:          "Given to the kernel: fragments are not balanced; if clients of a service send them, lower their MTU or the service's packet size.",
	NoService:         "Given to the kernel: no rule is for this address, protocol and port; compare with weiradm -Ln if clients miss a service.",
	NoConnection:      "Given to the kernel: packets of connections that weir does not know, after a restart or a timeout; clients get a reset and open anew.",
	LocalServer:       "Given to the kernel: the chosen server is this host itself; nothing to do.",
	StrayAnswer:       "A server answers on connections that have ended: its own timeouts are longer than weir's, see weiradm --set.",
	DropPacket:        "The option drop_packet refuses one in so many new connections: it is on, or memory was short.",
	NoServer:          "Every server of a service is at weight 0 or over its threshold: see weiradm -Ln --thresholds, give a server weight or add one.",
	ServerRemoved:     "Clients still talk to a server that was removed: drain a server before you remove it (weiradm drain), or add it again.",
	ServerUnreachable: "A server has no route or does not answer ARP: weiradm status names it; look at its link and at ip neigh.",
	TTLExceeded:       "Packets arrive at the end of their lifetime: a routing loop before weir, or a traceroute.",
	TooBig:            "Packets do not fit the way to the server: raise the MTU there by the tunnel's overhead, or lower what clients send (MSS).",
	TableFull:         "The connection table is full: restart with a larger --connections, or shorten timeouts with weiradm --set.",
	PortsExhausted:    "FULLNAT has no local port left towards a server: add another --local-address.",
	ReplyConflict:     "Two services share a NAT server and port, and a client used one port for both: give the server another port, or use FULLNAT.",
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
